// A tile of the matrix product: up to ROWS rows times up to TILE_VECTORS vectors of outputs, its sums in registers.
#pragma once
#include <utility>

#include "gemm.h"

namespace recarena {

struct Tile {
  const float *a, *b, *start;
  float* c;
  long a_stride, b_stride, steps, start_stride, c_stride;
  long last;  // lanes of the last vector that may be touched
};

template <int R, int V>
inline void sums_from_memory(const Tile& t, vec (&sum)[R][V]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const float* from = t.start + r * t.start_stride + v * LANES;
      sum[r][v] = v < V - 1 || t.last == LANES ? load(from) : load_first(from, t.last);
    }
  }
}

template <int R, int V>
inline void sums_to_memory(const Tile& t, vec (&sum)[R][V]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* to = t.c + r * t.c_stride + v * LANES;
      if (v < V - 1 || t.last == LANES)
        store(to, sum[r][v]);
      else
        store_first(to, sum[r][v], t.last);
    }
  }
}

typedef void (*Kernel)(const Tile&);

// The kernel of a tile's shape, out of one instance of `Run` for every shape.
template <template <int, int> class Run, int... I>
Kernel pick(long index, std::integer_sequence<int, I...>) {
  static const Kernel kernels[] = {&Run<I / TILE_VECTORS + 1, I % TILE_VECTORS + 1>::tile...};
  return kernels[index];
}

template <template <int, int> class Run>
Kernel kernel(long rows, long vectors) {
  return pick<Run>((rows - 1) * TILE_VECTORS + vectors - 1,
                   std::make_integer_sequence<int, ROWS * TILE_VECTORS>{});
}

// Sums over steps that are rows: element r of a step is the r-th of `a` at this step, not of its own row, and steps of `a`
// are a_stride apart. Where `last` cuts the last vector, no more of b is read.
void sum_outer(const Tile& t, long rows, long vectors);

// Whether pairs of bfloat16 are better widened to floats than multiplied as they are; then, for a tile of 4 rows or
// more, the product of pairs `t.a` and `t.b` goes through `multiply_widened`.
bool widen_pairs();
constexpr long LEAST_ROWS_TO_WIDEN = 4;
void multiply_widened(const Tile& t, long rows, long vectors);

// Whether this processor multiplies pairs in AMX tiles and the system lets this process do so; then a product of as
// many rows or more goes through `multiply_tiles`, all of its rows at once.
bool has_tiles();
constexpr long LEAST_ROWS_FOR_TILES = 4;
void multiply_tiles(const Tile& all, long rows, long vectors);

}  // namespace recarena
