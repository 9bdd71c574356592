// Activations of fully connected layers, applied in place to rows of whole vectors.
#pragma once
#include <vector>

#include "vec.h"

namespace recarena {

enum Kind { NONE = 0, RELU = 1, SIGMOID = 2, PRELU = 3, DICE = 4 };

// slope: PReLU's weight or Dice's alpha; scale and shift: Dice's batch norm as x * scale + shift. Padded to vectors.
struct Activation {
  Kind kind;
  std::vector<float> slope, scale, shift;

  Activation(Kind which, long outputs, const float* a, const float* b, const float* c) : kind(which) {
    const long padded = (outputs + LANES - 1) / LANES * LANES;
    const auto fill = [&](std::vector<float>& to, const float* from) {
      if (!from) return;
      to.assign(padded, 0.0f);
      std::copy(from, from + outputs, to.begin());
    };
    fill(slope, a), fill(scale, b), fill(shift, c);
  }

  // Columns [first, last) of the outputs, a multiple of LANES but for a row's end; writes no further.
  void apply(float* c, long stride, long rows, long first, long last) const {
    switch (kind) {
      case RELU:
        return run<RELU>(c, stride, rows, first, last);
      case SIGMOID:
        return run<SIGMOID>(c, stride, rows, first, last);
      case PRELU:
        return run<PRELU>(c, stride, rows, first, last);
      case DICE:
        return run<DICE>(c, stride, rows, first, last);
      default:
        return;
    }
  }

 private:
  template <Kind K>
  vec at(vec x, long column) const {
    const vec zero{};
    if (K == RELU) return max(zero, x);
    if (K == SIGMOID) return sigmoid(x);
    if (K == PRELU) return select(x > zero, x, x * load(&slope[column]));
    const vec gate = sigmoid(x * load(&scale[column]) + load(&shift[column]));
    const vec alpha = load(&slope[column]);
    return x * (gate + alpha * (1.0f - gate));
  }

  template <Kind K>
  void run(float* c, long stride, long rows, long first, long last) const {
    for (long r = 0; r < rows; ++r) {
      float* row = c + r * stride;
      long j = first;
      for (; j + LANES <= last; j += LANES) store(row + j, at<K>(load(row + j), j));
      if (j < last) store_first(row + j, at<K>(load_first(row + j, last - j), j), last - j);
    }
  }
};

}  // namespace recarena
