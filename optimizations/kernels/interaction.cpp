// Pairwise dot products A A^T of the vectors of a sample: A is loaded once, only the triangle is computed.
#include <algorithm>

#include "gemm.h"
#include "pool.h"

using namespace recarena;

namespace {

constexpr long SHARE = 16;  // samples of a task on the way back

// The vectors of a sample as operands: rows of whole vectors, 0 past `width`.
void pad(Precision precision, const float* a, long count, long width, long padded, float* to) {
  for (long i = 0; i < count; ++i) {
    prepare(precision, a + i * width, width, to + i * padded);
    std::memset(to + i * padded + width, 0, (padded - width) * sizeof(float));
  }
}

// gram[i][j .. j + LANES] (+)= a[i][k .. k + LANES] . a[j ..][k ..] for the rows i > j. The square of a that the columns
// are made of stays in registers; a row's elements are operands in memory. Vectors past the last one count as 0.
void add_columns(const float* a, long count, long width, long j, long k, long columns, float* gram) {
  vec square[LANES];
#pragma GCC unroll 16
  for (long i = 0; i < LANES; ++i) square[i] = j + i < count ? load(a + (j + i) * width + k) : vec{};
  transpose_square(square);
  for (long i = j + 1; i < count; ++i) {
    const float* row = a + i * width + k;
    float* to = gram + i * columns + j;
    vec even = k ? load(to) : vec{}, odd{};
#pragma GCC unroll 8
    for (long l = 0; l < LANES; l += 2) {
      even = even + square[l] * row[l];
      odd = odd + square[l + 1] * row[l + 1];
    }
    store(to, even + odd);
  }
}

// The strict lower triangle of gram [count, columns], row by row. What a row's last vector writes past its end, the next
// row writes again; nothing past the sample's own end is written.
void copy_triangle(const float* gram, long count, long columns, float* to) {
  const float* end = to + count * (count - 1) / 2;
  for (long i = 1; i < count; to += i, ++i)
    for (long j = 0; j < i; j += LANES) {
      const long room = end - (to + j);
      if (room >= LANES)
        store(to + j, load(gram + i * columns + j));
      else
        store_first(to + j, load(gram + i * columns + j), room);
    }
}

// The gradient of the triangle as the symmetric matrix that it is one half of, its diagonal 0.
void mirror_triangle(const float* triangle, long count, float* to) {
  for (long i = 0; i < count; ++i) {
    for (long j = 0; j < i; ++j) to[i * count + j] = to[j * count + i] = *triangle++;
    to[i * count + i] = 0.0f;
  }
}

// to[r] = sum over i of weights[r][i] a[i], R rows.
template <long R>
void weigh(const float* a, long count, long width, long lanes, const float* weights, float* to) {
  vec sum[R] = {};
  for (long i = 0; i < count; ++i) {
    const vec own = load_first(a + i * width, lanes);
#pragma GCC unroll 8
    for (long r = 0; r < R; ++r) sum[r] = sum[r] + own * weights[r * count + i];
  }
#pragma GCC unroll 8
  for (long r = 0; r < R; ++r) store_first(to + r * width, sum[r], lanes);
}

// The same for any number of rows, at most ROWS: sums whose number is known stay in registers.
template <long R = ROWS>
void weigh_rows(const float* a, long count, long width, long lanes, const float* weights, long rows, float* to) {
  if (rows == R) return weigh<R>(a, count, width, lanes, weights, to);
  if constexpr (R > 1) weigh_rows<R - 1>(a, count, width, lanes, weights, rows, to);
}

}  // namespace

extern "C" {

// vectors [samples, count, width] to the strict lower triangle [samples, count (count - 1) / 2], row by row.
// precision FP32 or TF32.
void recarena_interaction_run(const float* vectors, long samples, long count, long width, float* out, int precision,
                              int threads) {
  const long columns = round_up(count, LANES), padded = round_up(width, LANES), pairs = count * (count - 1) / 2;
  const bool plain = precision == FP32 && padded == width;
  const double work = (double)samples * count * columns * padded / 2 / LANES;
  parallel(samples, worthwhile(threads, 2 * work), [&](long n) {
    float *gram = scratch(0, count * columns + count * padded), *operands = gram + count * columns;
    const float* a = vectors + n * count * width;
    if (!plain) {
      pad((Precision)precision, a, count, width, padded, operands);
      a = operands;
    }
    for (long j = 0; j < count; j += LANES)
      for (long k = 0; k < padded; k += LANES) add_columns(a, count, padded, j, k, columns, gram);
    copy_triangle(gram, count, columns, out + n * pairs);
  });
}

// The way back: gradient [samples, count (count - 1) / 2] of the triangle, a sample's at its stride, to that of the
// vectors, in `out`.
void recarena_interaction_back(const float* vectors, const float* gradient, long stride, long samples, long count,
                               long width, float* out, int threads) {
  const double work = (double)samples * count * count * round_up(width, LANES) / LANES;
  parallel((samples + SHARE - 1) / SHARE, worthwhile(threads, work), [&](long share) {
    float* mirrored = scratch(0, count * count);
    for (long n = share * SHARE; n < std::min(samples, (share + 1) * SHARE); ++n) {
      mirror_triangle(gradient + n * stride, count, mirrored);
      const float* own = vectors + n * count * width;
      for (long k = 0; k < width; k += LANES)
        for (long i = 0; i < count; i += ROWS)
          weigh_rows(own + k, count, width, std::min(LANES, width - k), mirrored + i * count, std::min(ROWS, count - i),
                     out + (n * count + i) * width + k);
    }
  });
}

}  // extern "C"
