// A fully connected layer in training: its product forward, the two products of its way back, sums of gradients.
//
// Rows are worked on in tiles whose values stay in the caches from the first product to the last sum. A tile's buffers
// have rows of whole vectors. Gradients of parameters are summed by parts: a part is a fixed share of the rows, summed
// in their order, and the parts are added in theirs, so that a result does not depend on which thread did what.
#pragma once
#include <vector>

#include "gemm.h"

// One fully connected layer: weight [outputs, inputs], bias [outputs].
struct RecarenaDense {
  const float *weight, *bias;
  int64_t outputs, inputs;
};

namespace recarena {

// Weights [outputs, inputs] for both directions: x W^T + bias, and dy W.
class TrainedWeights {
 public:
  // weight(j, k) = w[j * row_stride + k]; bias [outputs] or null for none.
  TrainedWeights(const float* w, long outputs, long inputs, long row_stride, const float* bias);
  TrainedWeights(TrainedWeights&& other) noexcept;
  TrainedWeights(const TrainedWeights&) = delete;
  TrainedWeights& operator=(const TrainedWeights&) = delete;
  ~TrainedWeights();

  // y [rows, outputs] in whole vectors, or its real columns alone; start: other rows than the bias, one per row.
  void forward(const float* x, long x_stride, long rows, float* y, long y_stride, bool exact = false) const;
  void forward(const float* x, long x_stride, long rows, const float* start, long start_stride, float* y,
               long y_stride) const;
  // dx [rows, inputs] in whole vectors, or its real columns alone.
  void backward(const float* dy, long dy_stride, long rows, float* dx, long dx_stride, bool exact = false) const;

  long outputs() const { return forward_.outputs; }
  long inputs() const { return forward_.inputs; }
  long padded_outputs() const { return forward_.padded; }
  long padded_inputs() const { return backward_.padded; }
  const Packed& packed() const { return forward_; }
  const Packed& turned() const { return backward_; }

 private:
  Packed forward_, backward_;
  std::vector<float> bias_, zeros_;
};

// sums[j][k] += sum over rows of a[row][j] b[row][k]: j < outputs, k < inputs in whole vectors, which b has as well
// unless `exact`.
void add_outer(const float* a, long a_stride, const float* b, long b_stride, long rows, long outputs, long inputs,
               float* sums, long sums_stride, bool exact = false);

// What another part of the rows has summed up.
inline void add_part(std::vector<float>& sums, const std::vector<float>& more) {
  for (size_t k = 0; k < sums.size(); ++k) sums[k] += more[k];
}

// The sums of all parts, added in their order; `parts` are used up.
template <class Sums>
const Sums& add_parts(std::vector<Sums>& parts) {
  for (size_t part = 1; part < parts.size(); ++part) parts[0].add(parts[part]);
  return parts[0];
}

// The gradient of weights [outputs, inputs], summed up in the order of which fewer lanes are empty.
class WeightSums {
 public:
  WeightSums(long outputs, long inputs)
      : turned_(inputs * round_up(outputs, LANES) < outputs * round_up(inputs, LANES)),
        outputs_(outputs),
        inputs_(inputs),
        stride_(round_up(turned_ ? outputs : inputs, LANES)),
        sums_((turned_ ? inputs : outputs) * stride_, 0.0f) {}

  // += dy^T x over rows, both in whole vectors.
  void add(const float* dy, long dy_stride, const float* x, long x_stride, long rows) {
    if (turned_) add_outer(x, x_stride, dy, dy_stride, rows, inputs_, outputs_, sums_.data(), stride_);
    else add_outer(dy, dy_stride, x, x_stride, rows, outputs_, inputs_, sums_.data(), stride_);
  }
  void add(const WeightSums& other) { add_part(sums_, other.sums_); }
  float at(long output, long input) const { return sums_[turned_ ? input * stride_ + output : output * stride_ + input]; }

 private:
  bool turned_;
  long outputs_, inputs_, stride_;
  std::vector<float> sums_;
};

// sums[j] += sum over rows of a[row][j]; sums in whole vectors.
void add_rows(const float* a, long stride, long rows, long columns, float* sums);

void sigmoid_rows(float* x, long floats);                 // in place, whole vectors
void sigmoid_back(float* d, const float* y, long floats);  // d *= y (1 - y)

// to[row] = from[row], zeros up to whole vectors.
inline void copy_padded(const float* from, long columns, float* to) {
  long k = 0;
  for (; k + LANES <= columns; k += LANES) store(to + k, load(from + k));
  if (k < columns) store(to + k, load_first(from + k, columns - k));
}

inline vec add_up(const float* row, const float* other, long padded) {
  vec total{};
  for (long k = 0; k < padded; k += LANES) total = total + load(row + k) * load(other + k);
  return total;
}

// How many parts the rows of a call fall into on `threads` threads: some for each, so that none waits for long.
inline long parts_for(int threads, double operations) {
  return threads <= 1 || operations < 300e3 ? 1 : 4L * threads;
}

}  // namespace recarena
