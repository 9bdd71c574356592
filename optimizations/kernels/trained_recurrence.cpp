// GRU and AUGRU in training (zoo.layers.augru; Zhou et al., 2019, section 4.3): from padded inputs to states in one call.
#include "trained_recurrence.h"

using namespace recarena;

Recurrence::Recurrence(const RecarenaRecurrence& given)
    : call(given), hidden(given.hidden), padded(round_up(given.hidden, LANES)), sign(given.attention ? 1.0f : -1.0f) {
  std::vector<long> at(call.steps + 2, 0);
  for (long n = 0; n < call.samples; ++n) ++at[call.steps - call.lengths[n] + 1];
  for (long k = 0; k <= call.steps; ++k) at[k + 1] += at[k];
  order.resize(call.samples);
  for (long n = 0; n < call.samples; ++n) order[at[call.steps - call.lengths[n]]++] = n;
  first.push_back(0);
  for (long begin = 0; begin < call.samples; begin += BLOCK) {
    long real = first.back();
    for (long k = begin; k < std::min<long>(call.samples, begin + BLOCK); ++k) real += length(k);
    first.push_back(real);
  }
}

Block::Block(const Recurrence& all, long number)
    : begin(number * BLOCK),
      count(std::min<long>(BLOCK, all.call.samples - begin)),
      steps(all.length(begin)),
      place(all.first[number]),
      running_(steps),
      before_(steps + 1, 0) {
  long still = count;
  for (long t = 0; t < steps; ++t) {
    while (all.length(begin + still - 1) <= t) --still;
    running_[t] = still, before_[t + 1] = before_[t] + still;
  }
}

long Block::chunk_end(long t) const {
  long end = t + 1;
  while (end < steps && before_[end + 1] - before_[t] <= CHUNK) ++end;
  return end;
}

long Block::chunk_begin(long t) const {
  long from = t - 1;
  while (from > 0 && before_[t] - before_[from - 1] <= CHUNK) --from;
  return from;
}

void recarena::gather(const Recurrence& all, const Block& block, long t, long end, long padded, float* to) {
  const long width = all.call.width;
  for (; t < end; ++t)
    for (long r = 0; r < block.running(t); ++r, to += padded)
      copy_padded(all.call.x + all.at(block.begin + r, t) * width, width, to);
}

void recarena::copy_gate(const RecarenaDense& layer, long gate, long hidden, float sign, float* to) {
  const float* from = layer.weight + gate * hidden * layer.inputs;
  for (long k = 0; k < hidden * layer.inputs; ++k) to[k] = sign * from[k];
}

namespace {

// A layer of all three gates in their own order.
TrainedWeights gates_of(const RecarenaDense& layer, long hidden, float sign) {
  std::vector<float> weight(3 * hidden * layer.inputs), bias(layer.bias, layer.bias + 3 * hidden);
  for (long gate = 0; gate < 3; ++gate)
    copy_gate(layer, gate, hidden, gate == 1 ? sign : 1.0f, &weight[gate * hidden * layer.inputs]);
  for (long j = hidden; j < 2 * hidden; ++j) bias[j] *= sign;
  return TrainedWeights(weight.data(), 3 * hidden, layer.inputs, layer.inputs, bias.data());
}

struct Layer {
  TrainedWeights of_input, of_state;
};

// V vectors of units from unit j on. gates and own [3 h]: of the input and of the state. `old`: the state, whole vectors,
// 0 past the units; becomes the new one.
template <int V>
inline void units_forward(const Recurrence& all, const float* gates, const float* own, float score, float* old,
                          float* kept, long j) {
  const long h = all.hidden, padded = all.padded, last = std::min(LANES, h - j - (V - 1) * LANES);
  gates += j, own += j, old += j, kept += j;
  vec reset[V], update[V], candidate[V], from_state[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) reset[v] = sigmoid(load(gates + v * LANES) + load(own + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) update[v] = sigmoid(load(gates + h + v * LANES) + load(own + h + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    from_state[v] = load(own + 2 * h + v * LANES);
    candidate[v] = tanh(load(gates + 2 * h + v * LANES) + reset[v] * from_state[v]);
    if (v == V - 1) candidate[v] = first_lanes(candidate[v], last);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    float* to = kept + v * LANES;
    const vec before = load(old + v * LANES);
    store(to + RESET * padded, reset[v]), store(to + UPDATE * padded, update[v]);
    store(to + CANDIDATE * padded, candidate[v]), store(to + FROM_STATE * padded, from_state[v]);
    store(to + BEFORE * padded, before);
    store(old + v * LANES, before + score * update[v] * (candidate[v] - before));
  }
}

void hand_on(const Recurrence& all, long sequence, long t, const float* state) {
  const long h = all.hidden;
  if (all.call.states) std::memcpy(all.call.states + all.at(sequence, t) * h, state, h * sizeof(float));
  if (all.call.last && t + 1 == all.length(sequence))
    std::memcpy(all.call.last + all.order[sequence] * h, state, h * sizeof(float));
}

void fill_rest(const Recurrence& all, const Block& block) {
  const long h = all.hidden;
  for (long k = block.begin; k < block.begin + block.count; ++k) {
    if (all.call.states)
      std::fill_n(all.call.states + all.at(k, all.length(k)) * h, (all.call.steps - all.length(k)) * h, 0.0f);
    if (all.call.last && !all.length(k)) std::fill_n(all.call.last + all.order[k] * h, h, 0.0f);
  }
}

void forward(const Recurrence& all, const Layer& layer, const Block& block) {
  const long inputs = layer.of_input.padded_inputs(), wide = round_up(3 * all.hidden, LANES) + LANES;
  const long floats = CHUNK * (inputs + wide) + block.count * (all.padded + wide);
  float *x = scratch(1, floats), *gates = x + CHUNK * inputs, *old = gates + CHUNK * wide;
  float* own = old + block.count * all.padded;
  std::memset(x, 0, floats * sizeof(float));
  for (long t = 0; t < block.steps;) {
    const long begin = block.before(t), end = block.chunk_end(t);
    gather(all, block, t, end, inputs, x);
    layer.of_input.forward(x, inputs, block.before(end) - begin, gates, wide);
    for (; t < end; ++t) {
      const long rows = block.running(t), place = block.before(t);
      layer.of_state.forward(old, all.padded, rows, own, wide);
      for (long r = 0; r < rows; ++r) {
        float *state = old + r * all.padded, *kept = all.kept(block.place + place + r);
        const float *of_input = gates + (place + r - begin) * wide, score = all.score(block.begin + r, t);
        over_units(all.hidden, [&](auto v, long j) {
          units_forward<v()>(all, of_input, own + r * wide, score, state, kept, j);
        });
        hand_on(all, block.begin + r, t, state);
      }
    }
  }
  fill_rest(all, block);
}

}  // namespace

extern "C" {

// Real steps of all sequences, each of [0, steps]; -1 where one is not.
int64_t recarena_real_steps(const int64_t* lengths, int64_t samples, int64_t steps) {
  int64_t total = 0;
  for (int64_t n = 0; n < samples; ++n) {
    if (lengths[n] < 0 || lengths[n] > steps) return -1;
    total += lengths[n];
  }
  return total;
}

void recarena_recurrence_forward(const RecarenaRecurrence* call, int threads) {
  const Recurrence all(*call);
  const Layer layer{gates_of(call->of_input, all.hidden, all.sign), gates_of(call->of_state, all.hidden, all.sign)};
  parallel(all.blocks(), worthwhile(threads, all.work()), [&](long number) {
    const WithoutSubnormals guard;
    (void)guard;
    forward(all, layer, Block(all, number));
  });
}

}  // extern "C"
