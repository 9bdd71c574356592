// Rows times packed weights: the one matrix product of all kernels, c = start + a W^T.
#pragma once
#include <cstdint>

#include "vec.h"

namespace recarena {

enum Precision { FP32 = 0, BF16 = 1, TF32 = 2, INT8 = 3 };

constexpr long ROWS = 6;  // rows of a register tile
#if defined(__x86_64__) && !defined(RECARENA_AVX512)
constexpr long TILE_VECTORS = 2;  // 12 sums, 2 weights, 1 operand in 16 registers
#else
constexpr long TILE_VECTORS = 4;  // 24 sums, 4 weights, 1 operand in 32 registers
#endif

inline long round_up(long n, long to) { return (n + to - 1) / to * to; }

// Weights [outputs, inputs] as panels of a few vectors of outputs; within a panel step after step of the inputs.
// FP32, TF32: a step is one input, an element a float. BF16: a step is two inputs, an element a pair of bfloat16.
// INT8 (gemm_int8.h): a step is four inputs, an element four bytes.
struct Packed {
  long inputs, outputs, steps, padded;  // padded: outputs in whole vectors
  long panels;
  Precision precision;
  float* data;

  // First vector and number of vectors of a panel; the panels are as even as can be.
  long first(long panel) const { return panel * (padded / LANES) / panels; }
  long width(long panel) const { return first(panel + 1) - first(panel); }
  // Operands (floats or pairs) of one row of `inputs` values.
  float* panel(long index) const { return data + first(index) * LANES * steps; }
};

// Shaping AMX tiles costs as much as a small product: while one of these lives, its thread's tiles keep their shape.
struct HeldTiles {
  HeldTiles();
  ~HeldTiles();
  HeldTiles(const HeldTiles&) = delete;
  HeldTiles& operator=(const HeldTiles&) = delete;
};

Packed make_packed(long outputs, long inputs, Precision precision);
// weight(j, k) = w[j * row_stride + k]
void pack(Packed& packed, const float* w, long row_stride);
void release(Packed& packed);

// Columns of a panel [steps, columns], in whole vectors, from weights that lie as [outputs, steps] or as [steps, outputs];
// past the outputs, of which there is one in the last vector, they are 0.
void turn_strip(const float* from, long row_stride, long outputs, long steps, long columns, float* to);
void copy_strip(const float* from, long row_stride, long outputs, long steps, long columns, float* to);

// One row of `inputs` floats as operands of `precision`; FP32 rows need no preparation.
void prepare(Precision precision, const float* row, long inputs, float* operands);

// c[r] = start[r] + a[r] W^T. Strides count floats (pairs for bf16); start_stride 0: one bias row for all. `exact`:
// nothing past the real columns of c is written, else whole vectors are.
struct Product {
  const float* a;
  long a_stride;
  long rows;
  const float* start;
  long start_stride;
  float* c;
  long c_stride;
  bool exact;
};
// `vectors` (at most TILE_VECTORS) columns of operands b; `last`: real lanes of the last vector.
void multiply_strip(Precision precision, const float* b, long b_stride, long vectors, long last, long steps,
                    const Product& product);
void multiply_panel(const Packed& w, long panel, const Product& product);
void multiply(const Packed& w, const Product& product);

}  // namespace recarena
