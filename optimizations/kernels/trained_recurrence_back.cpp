// The way back through the recurrent layers of trained_recurrence.cpp.
//
// A step's gradient of its gates is a row [c, r, u, c r]: c, r, u of what the inputs give, r, u, c r of what the state
// gives, each side by side. The rows of a chunk are multiplied and summed up at once where they belong to inputs and
// weights; the state's own product follows the steps.
#include "trained_recurrence.h"

using namespace recarena;

namespace {

using Gradients = RecarenaRecurrenceGradients;

// Which gate of the weights the k-th part of a row belongs to: of the inputs, parts 0 to 2, of the state, 1 to 3.
constexpr long GATE[] = {2, 0, 1, 2};

struct Layer {
  TrainedWeights of_input, of_state;
  long row;  // floats of a row of gradients, beyond its 4 parts what whole vectors read
};

TrainedWeights back_of(const RecarenaDense& layer, long hidden, float sign, const long* parts) {
  std::vector<float> weight(3 * hidden * layer.inputs);
  for (long k = 0; k < 3; ++k)
    copy_gate(layer, parts[k], hidden, parts[k] == 1 ? sign : 1.0f, &weight[k * hidden * layer.inputs]);
  return TrainedWeights(weight.data(), 3 * hidden, layer.inputs, layer.inputs, nullptr);
}

// Gradients of the weights, turned: [inputs, 3 hidden], and of a row's parts; of a part of the blocks.
struct Sums {
  std::vector<float> of_input, of_state, row;

  Sums(const Layer& layer)
      : of_input(layer.of_input.inputs() * layer.of_input.padded_outputs(), 0.0f),
        of_state(layer.of_state.inputs() * layer.of_state.padded_outputs(), 0.0f),
        row(layer.row, 0.0f) {}

  void add(const Sums& other) {
    add_part(of_input, other.of_input), add_part(of_state, other.of_state), add_part(row, other.row);
  }
};

// V vectors of units from unit j on. `carried` [h] in whole vectors: the gradient that the following step hands back;
// afterwards what this step keeps of the sum. Returns what the attention gets.
template <int V>
inline vec units_backward(const Recurrence& all, const float* kept, const float* given, float score, float* carried,
                          float* row, long j) {
  const long h = all.hidden, padded = all.padded, last = std::min(LANES, h - j - (V - 1) * LANES);
  vec of_attention{};
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const float* own = kept + j + v * LANES;
    float* to = row + j;
    const vec reset = load(own + RESET * padded), update = load(own + UPDATE * padded);
    const vec candidate = load(own + CANDIDATE * padded), from_state = load(own + FROM_STATE * padded);
    const vec total = take<V>(given + j, v, last) + load(carried + j + v * LANES);
    const vec share = score * update, moved = total * (candidate - load(own + BEFORE * padded));
    const vec to_candidate = total * share * (1.0f - candidate * candidate);
    const vec to_reset = to_candidate * from_state * reset * (1.0f - reset);
    of_attention = of_attention + moved * update;
    put<V>(to, v, last, to_candidate), put<V>(to + h, v, last, to_reset);
    put<V>(to + 2 * h, v, last, score * moved * update * (1.0f - update));
    put<V>(to + 3 * h, v, last, to_candidate * reset);
    store(carried + j + v * LANES, total * (1.0f - share));
  }
  return of_attention;
}

// A step of the block: its rows of gradients, and what is carried to the step before it.
void step_back(const Recurrence& all, const Layer& layer, const Gradients& out, const Block& block, long t,
               const float* nothing, float* carried, float* rows) {
  const long h = all.hidden, running = block.running(t), place = block.place + block.before(t);
  for (long r = 0; r < running; ++r) {
    const long sequence = block.begin + r;
    float* own = carried + r * all.padded;
    if (out.last && t + 1 == all.length(sequence)) copy_padded(out.last + all.order[sequence] * h, h, own);
    const float *given = out.states ? out.states + all.at(sequence, t) * h : nothing, score = all.score(sequence, t);
    vec of_attention{};
    over_units(h, [&](auto v, long j) {
      of_attention = of_attention +
                     units_backward<v()>(all, all.kept(place + r), given, score, own, rows + r * layer.row, j);
    });
    if (out.attention) out.attention[all.at(sequence, t)] = sum(of_attention);
  }
  if (t) multiply(layer.of_state.turned(), {rows + h, layer.row, running, carried, all.padded, carried, all.padded, false});
}

void scatter(const Recurrence& all, const Block& block, long t, long end, long padded, const float* from, float* to) {
  const long width = all.call.width;
  for (; t < end; ++t)
    for (long r = 0; r < block.running(t); ++r, from += padded)
      std::memcpy(to + all.at(block.begin + r, t) * width, from, width * sizeof(float));
}

void fill_rest(const Recurrence& all, const Gradients& out, const Block& block) {
  const long width = all.call.width;
  for (long k = block.begin; k < block.begin + block.count; ++k) {
    const long place = all.at(k, all.length(k)), rest = all.call.steps - all.length(k);
    std::fill_n(out.x + place * width, rest * width, 0.0f);
    if (out.attention) std::fill_n(out.attention + place, rest, 0.0f);
  }
}

void backward(const Recurrence& all, const Layer& layer, const Gradients& out, const Block& block, Sums& sums) {
  const long h = all.hidden, inputs = layer.of_input.padded_inputs();
  const long floats = CHUNK * (2 * inputs + layer.row) + (block.count + 1) * all.padded;
  float *x = scratch(1, floats), *back = x + CHUNK * inputs, *rows = back + CHUNK * inputs;
  float *carried = rows + CHUNK * layer.row, *nothing = carried + block.count * all.padded;
  std::memset(x, 0, floats * sizeof(float));
  for (long end = block.steps; end > 0;) {
    const long begin = block.chunk_begin(end), place = block.before(begin), count = block.before(end) - place;
    for (long t = end; t-- > begin;)
      step_back(all, layer, out, block, t, nothing, carried, rows + (block.before(t) - place) * layer.row);
    gather(all, block, begin, end, inputs, x);
    add_outer(x, inputs, rows, layer.row, count, all.call.width, 3 * h, sums.of_input.data(),
              layer.of_input.padded_outputs());
    add_outer(all.kept(block.place + place) + BEFORE * all.padded, KEPT * all.padded, rows + h, layer.row, count, h, 3 * h,
              sums.of_state.data(), layer.of_state.padded_outputs());
    add_rows(rows, layer.row, count, 4 * h, sums.row.data());
    layer.of_input.backward(rows, layer.row, count, back, inputs);
    scatter(all, block, begin, end, inputs, back, out.x);
    end = begin;
  }
  fill_rest(all, out, block);
}

// From a row's parts, `first_part` and the two behind it, to weight [3 h, inputs] and bias [3 h]. sums: of the weights,
// row: of the parts.
void write(const Recurrence& all, const std::vector<float>& sums, const std::vector<float>& row, long first_part,
           long inputs, float* weight, float* bias) {
  const long h = all.hidden, padded = round_up(3 * h, LANES);
  for (long k = 0; k < 3; ++k) {
    const long gate = GATE[first_part + k];
    const float sign = gate == 1 ? all.sign : 1.0f;
    for (long j = 0; j < h; ++j) {
      bias[gate * h + j] = sign * row[(first_part + k) * h + j];
      for (long i = 0; i < inputs; ++i) weight[(gate * h + j) * inputs + i] = sign * sums[i * padded + k * h + j];
    }
  }
}

}  // namespace

extern "C" {

void recarena_recurrence_backward(const RecarenaRecurrence* call, const RecarenaRecurrenceGradients* gradients,
                                  int threads) {
  const Recurrence all(*call);
  const long h = all.hidden;
  const Layer layer{back_of(call->of_input, h, all.sign, GATE), back_of(call->of_state, h, all.sign, GATE + 1),
                    round_up(4 * h, LANES) + LANES};
  const long blocks = all.blocks(), parts = std::max<long>(1, std::min(blocks, parts_for(threads, all.work())));
  std::vector<Sums> sums(parts, Sums(layer));
  parallel(parts, threads, [&](long part) {
    const WithoutSubnormals guard;
    (void)guard;
    for (long number = part; number < blocks; number += parts)
      backward(all, layer, *gradients, Block(all, number), sums[part]);
  });
  const Sums& total = add_parts(sums);
  write(all, total.of_input, total.row, 0, call->width, gradients->input_weight, gradients->input_bias);
  write(all, total.of_state, total.row, 1, h, gradients->state_weight, gradients->state_bias);
}

}  // extern "C"
