// Training of GRU and AUGRU: all states of h' = h + a u (c - h), and the way back through them.
//
// The steps of R sequences lie packed, step by step, longest sequence first: row r of step t is at first(t) + r, and
// the sequences that still run at a step are its first ones. Sequences are independent, so threads take blocks of
// them; lanes are units. The gates r, u, c are those of zoo.layers.augru (Zhou et al., 2019, section 4.3).
#include <algorithm>
#include <vector>

#include "gemm.h"
#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"
#include "unit_vectors.h"

using namespace recarena;

// What one pass works on. [S] are packed steps.
struct RecarenaEvolution {
  const float *gates, *attention;                           // [S, 3 h] from the inputs, [S]
  const float *weight, *bias;                               // [3 h, h] and [3 h] of the state
  const int64_t* running;                                   // [steps], not rising
  int64_t steps, hidden;
  float *reset, *update, *candidate, *from_state, *states;  // [S, h]; from_state: U_c h + b of the candidate
};

struct RecarenaGradients {
  const float* states;                           // [S, h]
  float *gates, *attention, *weight, *bias;      // as above
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

// body(part, begin, end) for all blocks. Every part has blocks from the longest to the shortest.
template <class F>
void over_blocks(const Evolution& all, long parts, int threads, const F& body) {
  const long sequences = all.steps ? all.running[0] : 0, blocks = (sequences + BLOCK - 1) / BLOCK;
  parallel(parts, threads, [&](long part) {
    const WithoutSubnormals guard;
    (void)guard;
    for (long block = part; block < blocks; block += parts)
      body(part, block * BLOCK, std::min(sequences, (block + 1) * BLOCK));
  });
}

long parts_of(const Evolution& all, long packed_steps, int threads) {
  return parts_for(threads, COST * packed_steps * all.hidden * all.hidden / LANES);
}

// V vectors of units from unit j on, in step.
// `old`: the state, whole vectors; becomes the new one.
template <int V>
inline void units_forward(const Evolution& all, float* old, long place, long j, const float* state_gates) {
  const long h = all.hidden, at = place * h + j, last = std::min(LANES, h - j - (V - 1) * LANES);
  const float *gates = all.gates + place * 3 * h + j, *of_state = state_gates + j, score = all.attention[place];
  vec reset[V], update[V], candidate[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) reset[v] = sigmoid(take<V>(gates, v, last) + load(of_state + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) update[v] = sigmoid(take<V>(gates + h, v, last) + load(of_state + h + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const vec from_state = load(of_state + 2 * h + v * LANES);
    candidate[v] = tanh(take<V>(gates + 2 * h, v, last) + reset[v] * from_state);
    put<V>(all.from_state + at, v, last, from_state);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const vec before = load(old + j + v * LANES), after = before + score * update[v] * (candidate[v] - before);
    put<V>(all.reset + at, v, last, reset[v]), put<V>(all.update + at, v, last, update[v]);
    put<V>(all.candidate + at, v, last, candidate[v]);
    put<V>(all.states + at, v, last, after), store(old + j + v * LANES, after);
  }
}

// `old` [h]: the state that the step started from. `carried` [h]: the gradient that the following step hands back;
// afterwards what this step keeps of the sum. to_state [3 h]: the gradient of U h + b. Returns what the attention gets.
template <int V>
inline vec units_backward(const Evolution& all, const Gradients& out, const float* old, long place, long j,
                          float* carried, float* to_state) {
  const long h = all.hidden, at = place * h + j, last = std::min(LANES, h - j - (V - 1) * LANES);
  float* gates = out.gates + place * 3 * h + j;
  const float score = all.attention[place];
  vec of_attention{};
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const vec reset = take<V>(all.reset + at, v, last), update = take<V>(all.update + at, v, last);
    const vec candidate = take<V>(all.candidate + at, v, last), from_state = take<V>(all.from_state + at, v, last);
    const vec total = take<V>(out.states + at, v, last) + load(carried + j + v * LANES);
    const vec before = take<V>(old + j, v, last);
    const vec share = score * update, moved = total * (candidate - before);
    const vec to_candidate = total * share * (1.0f - candidate * candidate);
    const vec to_update = score * moved * update * (1.0f - update);
    const vec to_reset = to_candidate * from_state * reset * (1.0f - reset), through_reset = to_candidate * reset;
    of_attention = of_attention + moved * update;
    put<V>(gates, v, last, to_reset), put<V>(gates + h, v, last, to_update);
    put<V>(gates + 2 * h, v, last, to_candidate);
    put<V>(to_state + j, v, last, to_reset), put<V>(to_state + h + j, v, last, to_update);
    put<V>(to_state + 2 * h + j, v, last, through_reset);
    store(carried + j + v * LANES, total * (1.0f - share));
  }
  return of_attention;
}

void step_forward(const Evolution& all, float* old, long place, const float* state_gates) {
  over_units(all.hidden, [&](auto v, long j) { units_forward<v()>(all, old, place, j, state_gates); });
}

void step_backward(const Evolution& all, const Gradients& out, const float* old, long place, float* carried,
                   float* to_state) {
  vec of_attention{};
  over_units(all.hidden, [&](auto v, long j) {
    of_attention = of_attention + units_backward<v()>(all, out, old, place, j, carried, to_state);
  });
  out.attention[place] = sum(of_attention);
}

Packed packed(const float* weight, long outputs, long inputs) {
  Packed result = make_packed(outputs, inputs, FP32);
  pack(result, weight, inputs);
  return result;
}

}  // namespace

extern "C" {

// Fills reset, update, candidate, from_state and states.
void recarena_evolution_forward(const RecarenaEvolution* evolution, int threads) {
  const Evolution& all = *evolution;
  const std::vector<long> first = starts(all);
  const long h = all.hidden, width = round_up(h, LANES), wide = round_up(3 * h, LANES) + LANES;
  Packed weight = packed(all.weight, 3 * h, h);
  std::vector<float> bias(wide, 0.0f);
  std::copy(all.bias, all.bias + 3 * h, bias.begin());
  over_blocks(all, parts_of(all, first.back(), threads), threads, [&](long, long begin, long end) {
    float *old = scratch(1, (end - begin) * (width + wide)), *gates = old + (end - begin) * width;
    std::memset(old, 0, (end - begin) * (width + wide) * sizeof(float));
    for (long t = 0; t < all.steps && all.running[t] > begin; ++t) {
      const long rows = std::min(end, (long)all.running[t]) - begin, place = first[t] + begin;
      multiply(weight, {old, width, rows, bias.data(), 0, gates, wide, false});
      for (long r = 0; r < rows; ++r) step_forward(all, old + r * width, place + r, gates + r * wide);
    }
  });
  release(weight);
}

// Fills `gradients` from what the forward pass has filled.
void recarena_evolution_backward(const RecarenaEvolution* evolution, const RecarenaGradients* gradients, int threads) {
  const Evolution& all = *evolution;
  const std::vector<long> first = starts(all);
  const long h = all.hidden, width = round_up(h, LANES), wide = round_up(3 * h, LANES);
  std::vector<float> turned(h * 3 * h);
  for (long k = 0; k < 3 * h; ++k)
    for (long j = 0; j < h; ++j) turned[j * 3 * h + k] = all.weight[k * h + j];
  Packed weight = packed(turned.data(), h, 3 * h);
  const long parts = parts_of(all, first.back(), threads), floats = 3 * h * width + wide;
  const std::vector<float> nothing(BLOCK * h, 0.0f);
  std::vector<float> sums(parts * floats, 0.0f);
  over_blocks(all, parts, threads, [&](long part, long begin, long end) {
    float *carried = scratch(1, (end - begin) * (width + wide)), *to_state = carried + (end - begin) * width;
    float* own = &sums[part * floats];
    std::memset(carried, 0, (end - begin) * (width + wide) * sizeof(float));
    for (long t = all.steps; t-- > 0;) {
      const long rows = std::min(end, (long)all.running[t]) - begin, place = first[t] + begin;
      if (rows <= 0) continue;
      const float* old = t ? all.states + (first[t - 1] + begin) * h : nothing.data();
      for (long r = 0; r < rows; ++r)
        step_backward(all, *gradients, old + r * h, place + r, carried + r * width, to_state + r * wide);
      add_rows(to_state, wide, rows, 3 * h, own + 3 * h * width);
      if (!t) continue;
      add_outer(to_state, wide, old, h, rows, 3 * h, h, own, width, true);
      multiply(weight, {to_state, wide, rows, carried, width, carried, width, false});
    }
  });
  release(weight);
  for (long k = 0; k < 3 * h; ++k) {
    for (long j = 0; j <= h; ++j) {
      float total = 0.0f;
      for (long part = 0; part < parts; ++part)
        total += sums[part * floats + (j < h ? k * width + j : 3 * h * width + k)];
      (j < h ? gradients->weight[k * h + j] : gradients->bias[k]) = total;
    }
  }
}

}  // extern "C"
