// GRU and AUGRU over ragged sequences.
//
// Lanes are units, rows are sequences: one sequence alone fills the vectors, and a step is one small product
// [rows, h] x [h, 3h] plus the gates. Sequences are taken longest first, so that those still running are always the
// first rows of their block. Parameters as in torch.nn.GRU: gates stacked reset, update, candidate.
#include <algorithm>
#include <vector>

#include "gemm.h"
#include "pool.h"

using namespace recarena;

namespace {

constexpr long BLOCK = LANES == 16 ? 16 : 12;  // sequences of a tile; an AMX tile has sixteen rows
constexpr long CHUNK = 6;   // steps whose input gates are computed together, to stay in the first cache levels

struct Recurrent {
  long inputs, hidden, gates;  // gates: 3 h in whole vectors, plus one vector that unaligned loads may touch
  Precision precision;
  Packed input, state;
  std::vector<float> input_bias, state_bias;
};

struct Sequences {
  const float* x;  // [U, T, inputs]
  const int64_t* lengths;
  const int64_t* user_of;  // null: sequence n is user n
  long count, steps;

  long user(long n) const { return user_of ? user_of[n] : n; }
  long length(long n) const { return lengths[user(n)]; }
};

// Input gates [rows, gates] of `rows` consecutive steps of one user.
void input_gates(const Recurrent& net, const float* x, long rows, float* out) {
  Product product{x, net.inputs, rows, net.input_bias.data(), 0, out, net.gates, false};
  if (net.precision != FP32) {
    const long width = net.input.steps;
    float* operands = scratch(3, rows * width);
    for (long r = 0; r < rows; ++r) prepare(net.precision, x + r * net.inputs, net.inputs, operands + r * width);
    product.a = operands, product.a_stride = width;
  }
  multiply(net.input, product);
}

// V vectors of units from unit j on, in step: one vector alone waits for the latency of its long chain of operations.
template <bool Attention, int V>
inline void update_units(long hidden, long j, const float* gx, const float* gh, float score, float* state, float* out) {
  vec reset[V], update[V], candidate[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) reset[v] = logistic2(load(gx + j + v * LANES) + load(gh + j + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v)
    update[v] = logistic2(load(gx + hidden + j + v * LANES) + load(gh + hidden + j + v * LANES));
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const long at = 2 * hidden + j + v * LANES;
    candidate[v] = 1.0f - 2.0f * logistic2(load(gx + at) + reset[v] * load(gh + at));
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const long at = j + v * LANES;
    const vec old = load(state + at), c = candidate[v];
    // nn.GRU: (1 - z) c + z h. AUGRU: h + a z (c - h).
    const vec fresh = Attention ? old + score * update[v] * (c - old) : c + update[v] * (old - c);
    store(state + at, fresh);
    if (!Attention) store_first(out + at, fresh, std::min(LANES, hidden - at));
  }
}

// One row's new state from its input gates gx and state gates gh; the GRU's is copied to `out`. Reads up to one vector
// past the hidden units.
template <bool Attention>
inline void update_state(long hidden, const float* gx, const float* gh, float score, float* state, float* out) {
  long j = 0;
  for (; hidden - j > 3 * LANES; j += 4 * LANES) update_units<Attention, 4>(hidden, j, gx, gh, score, state, out);
  if (hidden - j > 2 * LANES)
    update_units<Attention, 3>(hidden, j, gx, gh, score, state, out);
  else if (hidden - j > LANES)
    update_units<Attention, 2>(hidden, j, gx, gh, score, state, out);
  else if (hidden > j)
    update_units<Attention, 1>(hidden, j, gx, gh, score, state, out);
}

// Rows [0, rows) of a block, all steps. gates_of(row, step) gives a row's input gates.
struct Block {
  long rows, width;         // width: floats of a row of `state`
  const long* sequence;     // [rows], longest first
  float *state, *operands;  // [rows, width]; operands of the product, `state` itself in FP32
  float* state_gates;       // [rows, gates]
};

void state_gates(const Recurrent& net, const Block& block, long rows) {
  if (net.precision != FP32)
    for (long r = 0; r < rows; ++r)
      prepare(net.precision, block.state + r * block.width, net.hidden, block.operands + r * block.width);
  multiply(net.state,
           {block.operands, block.width, rows, net.state_bias.data(), 0, block.state_gates, net.gates, false});
}

Block make_block(const Recurrent& net, const long* sequence, long rows) {
  Block block;
  block.rows = rows, block.sequence = sequence, block.width = round_up(net.hidden, LANES);
  float* memory = scratch(1, rows * (2 * block.width + net.gates));
  block.state = memory, block.operands = net.precision == FP32 ? memory : memory + rows * block.width;
  block.state_gates = memory + 2 * rows * block.width;
  std::memset(block.state, 0, rows * block.width * sizeof(float));
  return block;
}

// Runs one block. `shared`: input gates of all users [U, T, gates], or null to compute them chunk by chunk.
template <bool Attention>
void run_block(const Recurrent& net, const Sequences& all, const Block& block, const float* shared,
               const float* scores, float* states) {
  const long longest = all.length(block.sequence[0]), gates = net.gates;
  float* chunk = shared ? nullptr : scratch(2, block.rows * CHUNK * gates);
  long running = block.rows;
  for (long t = 0; t < longest; ++t) {
    while (all.length(block.sequence[running - 1]) <= t) --running;
    if (!shared && t % CHUNK == 0)
      for (long r = 0; r < running; ++r) {
        const long n = block.sequence[r], ahead = std::min(CHUNK, all.length(n) - t);
        input_gates(net, all.x + (all.user(n) * all.steps + t) * net.inputs, ahead, chunk + r * CHUNK * gates);
      }
    state_gates(net, block, running);
    for (long r = 0; r < running; ++r) {
      const long n = block.sequence[r];
      const float* gx = shared ? shared + (all.user(n) * all.steps + t) * gates : chunk + (r * CHUNK + t % CHUNK) * gates;
      const long row = n * all.steps + t;
      update_state<Attention>(net.hidden, gx, block.state_gates + r * gates, Attention ? scores[row] : 0.0f,
                              block.state + r * block.width, Attention ? nullptr : states + row * net.hidden);
    }
  }
}

template <bool Attention>
void run(const Recurrent& net, const Sequences& all, const float* shared, const float* scores, float* out,
         int threads) {
  long* order = reinterpret_cast<long*>(scratch(4, 2 * all.count));
  for (long n = 0; n < all.count; ++n) order[n] = n;
  std::stable_sort(order, order + all.count, [&](long a, long b) { return all.length(a) > all.length(b); });
  const long blocks = (all.count + BLOCK - 1) / BLOCK;
  const double work = (double)all.count * all.steps * 3 * net.hidden * (net.hidden + (shared ? 0 : net.inputs));
  parallel(blocks, worthwhile(threads, work / LANES), [&](long tile) {
    const long first = tile * all.count / blocks, rows = (tile + 1) * all.count / blocks - first;
    const Block block = make_block(net, order + first, rows);
    const HeldTiles tiles;
    run_block<Attention>(net, all, block, shared, scores, out);
    for (long r = 0; r < rows; ++r) {
      const long n = block.sequence[r], length = all.length(n);
      if (Attention)
        std::memcpy(out + n * net.hidden, block.state + r * block.width, net.hidden * sizeof(float));
      else
        std::memset(out + (n * all.steps + length) * net.hidden, 0, (all.steps - length) * net.hidden * sizeof(float));
    }
  });
}

// Weights [3 h, columns] or biases as `logistic2` takes their sums: sigmoid(x) = logistic2(-x log2(e)) for reset and
// update, tanh(x) = 1 - 2 logistic2(2 x log2(e)) for the candidate.
std::vector<float> in_binary_logs(const float* from, long hidden, long columns) {
  std::vector<float> to(from, from + 3 * hidden * columns);
  for (long k = 0; k < (long)to.size(); ++k) to[k] *= k < 2 * hidden * columns ? -LOG2_E : 2.0f * LOG2_E;
  return to;
}

}  // namespace

extern "C" {

void* recarena_recurrent_new(const float* weight_ih, const float* weight_hh, const float* bias_ih,
                             const float* bias_hh, long inputs, long hidden, int precision) {
  auto* net = new Recurrent;
  net->inputs = inputs, net->hidden = hidden, net->precision = (Precision)precision;
  net->gates = round_up(3 * hidden, LANES) + LANES;
  net->input = make_packed(3 * hidden, inputs, net->precision);
  net->state = make_packed(3 * hidden, hidden, net->precision);
  pack(net->input, in_binary_logs(weight_ih, hidden, inputs).data(), inputs);
  pack(net->state, in_binary_logs(weight_hh, hidden, hidden).data(), hidden);
  net->input_bias.assign(net->gates, 0.0f), net->state_bias = net->input_bias;
  const auto of_input = in_binary_logs(bias_ih, hidden, 1), of_state = in_binary_logs(bias_hh, hidden, 1);
  std::copy(of_input.begin(), of_input.end(), net->input_bias.begin());
  std::copy(of_state.begin(), of_state.end(), net->state_bias.begin());
  return net;
}

void recarena_recurrent_free(void* handle) {
  auto* net = static_cast<Recurrent*>(handle);
  release(net->input), release(net->state);
  delete net;
}

// x [users, steps, inputs], lengths [users] to states [users, steps, hidden], zero past the length.
void recarena_gru_run(const void* handle, const float* x, const int64_t* lengths, long users, long steps,
                      float* states, int threads) {
  run<false>(*static_cast<const Recurrent*>(handle), {x, lengths, nullptr, users, steps}, nullptr, nullptr, states,
             threads);
}

// x [users, steps, inputs], lengths [users], user_of [samples] or null, scores [samples, steps] to the last state
// [samples, hidden]. With fewer users than samples the input gates are computed once per user.
void recarena_augru_run(const void* handle, const float* x, const int64_t* lengths, const int64_t* user_of,
                        const float* scores, long users, long samples, long steps, float* out, int threads) {
  const auto& net = *static_cast<const Recurrent*>(handle);
  float* shared = nullptr;
  if (user_of && users < samples) {
    shared = scratch(5, users * steps * net.gates);
    parallel(users, worthwhile(threads, (double)users * steps * 3 * net.hidden * net.inputs / LANES), [&](long user) {
      input_gates(net, x + user * steps * net.inputs, lengths[user], shared + user * steps * net.gates);
    });
  }
  run<true>(net, {x, lengths, user_of, samples, steps}, shared, scores, out, threads);
}

}  // extern "C"
