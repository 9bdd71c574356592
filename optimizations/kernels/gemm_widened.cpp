// The product of bfloat16 pairs on processors that multiply pairs no faster than floats.
//
// A tile widens its rows once and each pair of weights once for all of its rows, and multiplies floats: the products
// are the same, exact ones, and the weights still take half the memory. Measured on a Xeon of family 6, model 207
// (AVX512_BF16, AMX hidden by the hypervisor): its instruction for pairs runs at half the rate of the one for floats.
#include <vector>

#include "gemm_tile.h"

namespace recarena {
namespace {

// Tile::a holds, for each row, the lower numbers of all pairs and then the upper ones; `a_stride` floats to the upper.
template <int R, int V>
struct Widened {
  static void tile(const Tile& t) {
    vec sum[R][V];
    sums_from_memory(t, sum);
    const ivec high = splat_int((int32_t)0xFFFF0000);
    for (long k = 0; k < t.steps; ++k) {
      vec weights[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weights[v] = (vec)((ivec)load(t.b + k * t.b_stride + v * LANES) << 16);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = splat(t.a[2 * r * t.a_stride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + x * weights[v];
      }
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weights[v] = (vec)((ivec)load(t.b + k * t.b_stride + v * LANES) & high);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = splat(t.a[(2 * r + 1) * t.a_stride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + x * weights[v];
      }
    }
    sums_to_memory(t, sum);
  }
};

void widen(const float* pairs, long steps, float* lower, float* upper) {
  const ivec high = splat_int((int32_t)0xFFFF0000);
  for (long k = 0; k < steps; k += LANES) {
    const ivec both = (ivec)(k + LANES <= steps ? load(pairs + k) : load_first(pairs + k, steps - k));
    store(lower + k, (vec)(both << 16));
    store(upper + k, (vec)(both & high));
  }
}

}  // namespace

bool widen_pairs() {
#if defined(__AVX512BF16__) && defined(RECARENA_AVX512)
  static const bool slow = (__builtin_cpu_init(), __builtin_cpu_is("intel"));
  return slow;
#else
  return true;
#endif
}

void multiply_widened(const Tile& pairs, long rows, long vectors) {
  static thread_local std::vector<float> wide;
  const long stride = round_up(pairs.steps, LANES);
  wide.resize(2 * rows * stride);
  for (long r = 0; r < rows; ++r)
    widen(pairs.a + r * pairs.a_stride, pairs.steps, &wide[2 * r * stride], &wide[(2 * r + 1) * stride]);
  Tile t = pairs;
  t.a = wide.data(), t.a_stride = stride;
  kernel<Widened>(rows, vectors)(t);
}

}  // namespace recarena
