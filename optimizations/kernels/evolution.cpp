// Training of GRU and AUGRU: all states of h' = h + a u (c - h), and the way back through them.
//
// The steps of R sequences lie packed, step by step, longest sequence first: row r of step t is at first(t) + r, and
// the sequences that still run at a step are its first ones. Sequences are independent, so threads take blocks of
// them; lanes are units. The gates r, u, c are those of zoo.layers.augru (Zhou et al., 2019, section 4.3).
#include <algorithm>
#include <vector>

#include "gemm.h"
#include "pool.h"

using namespace recarena;

// What one pass works on. [S] are packed steps.
struct RecarenaEvolution {
  const float *gates, *attention;                           // [S, 3 h] from the inputs, [S]
  const float *weight, *bias;                               // [3 h, h] and [3 h] of the state
  const int64_t* running;                                   // [steps], not rising
  int64_t steps, hidden;
  // [S, h]; from_state: U_c h + b of the candidate; before: the state that a step starts from
  float *reset, *update, *candidate, *from_state, *before, *states;
};

struct RecarenaGradients {
  const float* states;                     // [S, h]
  float *gates, *state_gates, *attention;  // [S, 3 h]; [S, 3 h] with respect to U h + b; [S]
};

namespace {

using Evolution = RecarenaEvolution;
using Gradients = RecarenaGradients;

constexpr long BLOCK = 2 * ROWS;  // sequences of a task: their states stay in the first cache level
constexpr double COST = 3.0;      // products of one step in units of h^2

std::vector<long> starts(const Evolution& all) {
  std::vector<long> first(all.steps + 1, 0);
  for (long t = 0; t < all.steps; ++t) first[t + 1] = first[t] + all.running[t];
  return first;
}

template <class F>
void over_blocks(const Evolution& all, long packed_steps, int threads, const F& body) {
  const long sequences = all.steps ? all.running[0] : 0, blocks = (sequences + BLOCK - 1) / BLOCK;
  const double work = COST * packed_steps * all.hidden * all.hidden / LANES;
  parallel(blocks, worthwhile(threads, work),
           [&](long block) { body(block * BLOCK, std::min(sequences, (block + 1) * BLOCK)); });
}

void step_forward(const Evolution& all, const float* old, long place, const float* state_gates) {
  const long h = all.hidden;
  const float *gates = all.gates + place * 3 * h, score = all.attention[place];
  for (long j = 0; j < h; j += LANES) {
    const long n = std::min(LANES, h - j), at = place * h + j;
    const vec reset = sigmoid(load_first(gates + j, n) + load(state_gates + j));
    const vec update = sigmoid(load_first(gates + h + j, n) + load(state_gates + h + j));
    const vec from_state = load(state_gates + 2 * h + j);
    const vec candidate = tanh(load_first(gates + 2 * h + j, n) + reset * from_state);
    const vec before = load(old + j);
    store_first(all.reset + at, reset, n), store_first(all.update + at, update, n);
    store_first(all.candidate + at, candidate, n), store_first(all.from_state + at, from_state, n);
    store_first(all.before + at, before, n);
    store_first(all.states + at, before + score * update * (candidate - before), n);
  }
}

// `carried` [h]: the gradient that the following step hands back; afterwards what this step keeps of the sum.
void step_backward(const Evolution& all, const Gradients& out, long place, float* carried, float* to_state) {
  const long h = all.hidden;
  float *gates = out.gates + place * 3 * h, *state_gates = out.state_gates + place * 3 * h;
  const float score = all.attention[place];
  vec of_attention{};
  for (long j = 0; j < h; j += LANES) {
    const long n = std::min(LANES, h - j), at = place * h + j;
    const vec reset = load_first(all.reset + at, n), update = load_first(all.update + at, n);
    const vec candidate = load_first(all.candidate + at, n), from_state = load_first(all.from_state + at, n);
    const vec total = load_first(out.states + at, n) + load(carried + j);
    const vec before = load_first(all.before + at, n);
    const vec share = score * update, moved = total * (candidate - before);
    const vec to_candidate = total * share * (1.0f - candidate * candidate);
    const vec to_update = score * moved * update * (1.0f - update);
    const vec to_reset = to_candidate * from_state * reset * (1.0f - reset);
    of_attention = of_attention + moved * update;
    store_first(gates + j, to_reset, n), store_first(gates + h + j, to_update, n);
    store_first(gates + 2 * h + j, to_candidate, n);
    store_first(state_gates + j, to_reset, n), store_first(state_gates + h + j, to_update, n);
    store_first(state_gates + 2 * h + j, to_candidate * reset, n);
    store_first(carried + j, total * (1.0f - share), n);
  }
  std::memcpy(to_state, state_gates, 3 * h * sizeof(float));
  out.attention[place] = sum(of_attention);
}

Packed packed(const float* weight, long outputs, long inputs) {
  Packed result = make_packed(outputs, inputs, FP32);
  pack(result, weight, inputs);
  return result;
}

}  // namespace

extern "C" {

// Fills reset, update, candidate, from_state, before and states.
void recarena_evolution_forward(const RecarenaEvolution* evolution, int threads) {
  const Evolution& all = *evolution;
  const std::vector<long> first = starts(all);
  const long h = all.hidden, width = round_up(h, LANES), wide = round_up(3 * h, LANES) + LANES;
  Packed weight = packed(all.weight, 3 * h, h);
  std::vector<float> bias(wide, 0.0f);
  std::copy(all.bias, all.bias + 3 * h, bias.begin());
  over_blocks(all, first.back(), threads, [&](long begin, long end) {
    float *old = scratch(1, (end - begin) * (width + wide)), *gates = old + (end - begin) * width;
    std::memset(old, 0, (end - begin) * (width + wide) * sizeof(float));
    for (long t = 0; t < all.steps && all.running[t] > begin; ++t) {
      const long rows = std::min(end, (long)all.running[t]) - begin, place = first[t] + begin;
      multiply(weight, {old, width, rows, bias.data(), 0, gates, wide, false});
      for (long r = 0; r < rows; ++r) {
        step_forward(all, old + r * width, place + r, gates + r * wide);
        std::memcpy(old + r * width, all.states + (place + r) * h, h * sizeof(float));
      }
    }
  });
  release(weight);
}

// Fills gates, state_gates and attention of `gradients` from what the forward pass has filled.
void recarena_evolution_backward(const RecarenaEvolution* evolution, const RecarenaGradients* gradients, int threads) {
  const Evolution& all = *evolution;
  const std::vector<long> first = starts(all);
  const long h = all.hidden, width = round_up(h, LANES), wide = round_up(3 * h, LANES);
  std::vector<float> turned(h * 3 * h);
  for (long k = 0; k < 3 * h; ++k)
    for (long j = 0; j < h; ++j) turned[j * 3 * h + k] = all.weight[k * h + j];
  Packed weight = packed(turned.data(), h, 3 * h);
  over_blocks(all, first.back(), threads, [&](long begin, long end) {
    float *carried = scratch(1, (end - begin) * (width + wide)), *to_state = carried + (end - begin) * width;
    std::memset(carried, 0, (end - begin) * (width + wide) * sizeof(float));
    for (long t = all.steps; t-- > 0;) {
      const long rows = std::min(end, (long)all.running[t]) - begin, place = first[t] + begin;
      if (rows <= 0) continue;
      for (long r = 0; r < rows; ++r)
        step_backward(all, *gradients, place + r, carried + r * width, to_state + r * wide);
      multiply(weight, {to_state, wide, rows, carried, width, carried, width, false});
    }
  });
  release(weight);
}

}  // extern "C"
