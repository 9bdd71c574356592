// Dice in training (Zhou et al., 2018, section 5.3, equation 9): y = z (p + alpha (1 - p)) with p = sigmoid(x),
// x = (z - mean) inverse, mean and inverse = 1 / sqrt(variance + eps) those of the batch.
#pragma once
#include <vector>

#include "vec.h"

namespace recarena {

constexpr float DICE_EPS = 1e-8f;  // zoo.layers.mlp.DICE_EPS

// Rows, mean and sum of squared deviations from it, by column in whole vectors, of the rows seen so far.
struct Moments {
  double rows = 0.0;
  std::vector<float> mean, squares;

  explicit Moments(long columns) : mean(columns, 0.0f), squares(columns, 0.0f) {}
  void add(const float* x, long stride, long count, long real);  // of x [count, real]
  void add(const Moments& other);  // Chan, Golub and LeVeque, 1983

 private:
  void merge(long column, double count, vec mean, vec squares);
};

// One layer's activation of rows of `columns` values; alpha, mean and inverse in whole vectors.
struct BatchDice {
  const float *alpha, *mean, *inverse;
  long columns, stride;

  void forward(const float* z, long rows, float* y) const;
  // slopes: what `BackSums` has added up over the whole batch, divided by its rows. dz may be dy.
  void backward(const float* z, long rows, const float* mean_slope, const float* scaled_slope, const float* dy,
                float* dz) const;
};

// Sums over a batch on the way back: of the gradient g of x, of g x, and the gradient of alpha.
struct BackSums {
  std::vector<float> slope, scaled, alpha;

  explicit BackSums(long columns) : slope(columns, 0.0f), scaled(columns, 0.0f), alpha(columns, 0.0f) {}
  void add(const BatchDice& dice, const float* z, const float* dy, long rows);
  void add(const BackSums& other);
};

// 1 / sqrt(variance + eps) of moments.
std::vector<float> inverse_deviation(const Moments& moments);

}  // namespace recarena
