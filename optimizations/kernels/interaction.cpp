// Pairwise dot products A A^T of the vectors of a sample: A is loaded once, only the triangle is computed.
#include "gemm.h"
#include "pool.h"

using namespace recarena;

namespace {

// A [vectors, width] as a panel of `columns` columns: to[k * columns + j] = A[j][k]. Columns past the last vector are 0:
// what lay there before may read as subnormal numbers, which some processors multiply a hundred times slower.
void transpose(const float* a, long vectors, long width, long columns, float* to) {
  for (long k = 0; k < width; ++k) std::memset(to + k * columns + vectors, 0, (columns - vectors) * sizeof(float));
  for (long j = 0; j < vectors; ++j)
    for (long k = 0; k < width; ++k) to[k * columns + j] = a[j * width + k];
}

}  // namespace

extern "C" {

// vectors [samples, count, width] to the strict lower triangle [samples, count (count - 1) / 2], row by row.
// precision FP32 or TF32.
void recarena_interaction_run(const float* vectors, long samples, long count, long width, float* out, int precision,
                              int threads) {
  const long columns = round_up(count, LANES), pairs = count * (count - 1) / 2;
  const double work = (double)samples * count * columns * width / 2 / LANES;
  parallel(samples, worthwhile(threads, 2 * work), [&](long n) {
    float* transposed = scratch(0, columns * width + columns * columns + columns + count * width);
    float *gram = transposed + columns * width, *zero = gram + columns * columns, *rounded = zero + columns;
    const float* a = vectors + n * count * width;
    if (precision != FP32) {
      prepare((Precision)precision, a, count * width, rounded);
      a = rounded;
    }
    transpose(a, count, width, columns, transposed);
    std::memset(zero, 0, columns * sizeof(float));
    for (long row = 0; row < count; row += ROWS) {
      const long rows = count - row < ROWS ? count - row : ROWS;
      const Product part{a + row * width, width, rows, zero, 0, gram + row * columns, columns, false};
      const long needed = (row + rows - 1 + LANES - 1) / LANES;  // row i needs the columns before i only
      for (long v = 0; v < needed; v += TILE_VECTORS) {
        Product strip = part;
        strip.c += v * LANES;
        multiply_strip(FP32, transposed + v * LANES, columns, needed - v < TILE_VECTORS ? needed - v : TILE_VECTORS,
                       LANES, width, strip);
      }
    }
    float* to = out + n * pairs;
    for (long i = 1; i < count; to += i, ++i) std::memcpy(to, gram + i * columns, i * sizeof(float));
  });
}

}  // extern "C"
