// What the roofline is measured by: registers full of multiply-adds, and rows read from anywhere in a table.
#include <cstdint>

#include "vec.h"

using namespace recarena;

namespace {

constexpr int CHAINS = 12;  // more than latency times ports of any core, and no more than an AVX2 core has registers
constexpr long LARGEST_BATCH = 256;

uint64_t next(uint64_t& state) {  // Marsaglia, "Xorshift RNGs", 2003
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

// The lines of `batch` rows drawn anew are asked for.
void ask(const char* table, int64_t row_bytes, uint64_t rows, long batch, uint64_t& state, const char** at) {
  for (long i = 0; i < batch; ++i) {
    at[i] = table + (int64_t)(((next(state) >> 32) * rows) >> 32) * row_bytes;
    for (int64_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(at[i] + byte);
    __builtin_prefetch(at[i] + row_bytes - 1);
  }
}

}  // namespace

extern "C" {

// Operations done: `rounds` multiply-adds on every lane of independent chains. The sum keeps them from being left out.
int64_t bench_multiply_add(int64_t rounds, float* sum) {
  vec chains[CHAINS];
  const vec factor = splat(sum[0]), summand = splat(sum[1]);
  for (int i = 0; i < CHAINS; ++i) chains[i] = splat((float)i);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; ++i) chains[i] = chains[i] * factor + summand;
  }
  vec total{};
  for (int i = 0; i < CHAINS; ++i) total = total + chains[i];
  store_first(sum + 2, total, 1);
  return 2 * rounds * CHAINS * LANES;
}

// Reads `count` random rows (rounded down to whole batches) of row_bytes (a multiple of 4) out of `rows`, a batch asked
// for while the one before it is read. Returns the bytes of the rows.
int64_t bench_random_rows(const char* table, int64_t row_bytes, int64_t rows, int64_t count, int64_t batch,
                          uint64_t* state, float* sum) {
  const char* at[2][LARGEST_BATCH];
  const long floats = row_bytes / 4, rounds = count / batch;
  vec total{};
  ask(table, row_bytes, rows, batch, *state, at[0]);
  for (long round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) ask(table, row_bytes, rows, batch, *state, at[(round + 1) % 2]);
    for (long i = 0; i < batch; ++i) {
      const float* row = reinterpret_cast<const float*>(at[round % 2][i]);
      long j = 0;
      for (; j + LANES <= floats; j += LANES) total = total + load(row + j);
      if (j < floats) total = total + load_first(row + j, floats - j);
    }
  }
  store_first(sum, total, 1);
  return rounds * batch * row_bytes;
}

}  // extern "C"
