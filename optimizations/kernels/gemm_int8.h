// Rows of unsigned bytes times packed signed ones: the matrix product of quantized layers.
//
// A layer's weight w[j][k] stands as the integer q = w[j][k] / (inverse[k] scale[j]), a row's input x[k] as the integer
// (x[k] inverse[k] - low) / step, low and step those of the row. The sums are exact.
#pragma once
#include <vector>

#include "gemm_tile.h"

namespace recarena {

struct Quantization {
  std::vector<float> inverse;  // [inputs]
  std::vector<float> scale;    // [padded]
  std::vector<float> sum;      // [padded] scale[j] times the sum of an output's integers
};

// w [outputs, inputs] of integers in [-127, 127], into `packed` (INT8: a step is four inputs, an element four bytes).
Quantization pack_int8(Packed& packed, const int8_t* w, const float* scale, const float* inverse);

struct Range {
  float step, low;
};
// One row of `inputs` floats as operands. The step of a row with a NaN in it is NaN.
Range quantize(const Quantization& quantization, const float* row, long inputs, float* operands);

// As `multiply_panel` of gemm.h; a range per row of `product`.
void multiply_panel(const Packed& w, const Quantization& quantization, long panel, const Product& product,
                    const Range* ranges);

struct QuantizedTile : Tile {
  const float *scale, *sum;  // of the tile's outputs
  const Range* ranges;       // of its rows
};

// Integer sums of vector v of `vectors` of row r to real numbers in c.
inline void dequantize(const QuantizedTile& t, long r, long v, long vectors, ivec sums) {
  const float* start = t.start + r * t.start_stride + v * LANES;
  float* c = t.c + r * t.c_stride + v * LANES;
  const vec product = __builtin_convertvector(sums, vec) * load(t.scale + v * LANES) * t.ranges[r].step +
                      load(t.sum + v * LANES) * t.ranges[r].low;
  if (v < vectors - 1 || t.last == LANES)
    store(c, load(start) + product);
  else
    store_first(c, load_first(start, t.last) + product, t.last);
}

// As `multiply_tiles` of gemm_tile.h, where `has_tiles`.
void multiply_byte_tiles(const QuantizedTile& all, long rows, long vectors);

}  // namespace recarena
