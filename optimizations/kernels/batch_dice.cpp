#include "batch_dice.h"

#include <algorithm>
#include <cmath>

namespace recarena {

void Moments::merge(long column, double count, vec other_mean, vec other_squares) {
  const double total = rows + count;
  const float share = (float)(count / total), weight = (float)(rows * count / total);
  const vec here = load(&mean[column]), apart = other_mean - here;
  store(&mean[column], here + apart * share);
  store(&squares[column], load(&squares[column]) + other_squares + apart * apart * weight);
}

void Moments::add(const float* x, long stride, long count, long real) {
  if (!count) return;
  for (long j = 0; j < real; j += LANES) {
    const long lanes = std::min(LANES, real - j);
    vec total{}, off{};
    for (long r = 0; r < count; ++r) total = total + load_first(x + r * stride + j, lanes);
    const vec own = total / (float)count;
    for (long r = 0; r < count; ++r) {
      const vec apart = load_first(x + r * stride + j, lanes) - own;
      off = off + apart * apart;
    }
    merge(j, (double)count, own, off);
  }
  rows += (double)count;
}

void Moments::add(const Moments& other) {
  if (other.rows == 0.0) return;
  for (long j = 0; j < (long)mean.size(); j += LANES) merge(j, other.rows, load(&other.mean[j]), load(&other.squares[j]));
  rows += other.rows;
}

std::vector<float> inverse_deviation(const Moments& moments) {
  std::vector<float> inverse(moments.mean.size());
  for (size_t j = 0; j < inverse.size(); ++j)
    inverse[j] = (float)(1.0 / std::sqrt(moments.squares[j] / moments.rows + (double)DICE_EPS));
  return inverse;
}

void BatchDice::forward(const float* z, long rows, float* y) const {
  for (long j = 0; j < columns; j += LANES) {
    const long lanes = std::min(LANES, columns - j);
    const vec slope = load(alpha + j), centre = load(mean + j), scale = load(inverse + j);
    for (long r = 0; r < rows; ++r) {
      const vec at = load_first(z + r * stride + j, lanes), gate = sigmoid((at - centre) * scale);
      store_first(y + r * stride + j, at * (gate + slope * (1.0f - gate)), lanes);
    }
  }
}

void BatchDice::backward(const float* z, long rows, const float* mean_slope, const float* scaled_slope,
                         const float* dy, float* dz) const {
  for (long j = 0; j < columns; j += LANES) {
    const long lanes = std::min(LANES, columns - j);
    const vec slope = load(alpha + j), centre = load(mean + j), scale = load(inverse + j);
    const vec one = load(mean_slope + j), two = load(scaled_slope + j);
    for (long r = 0; r < rows; ++r) {
      const vec at = load_first(z + r * stride + j, lanes), x = (at - centre) * scale, gate = sigmoid(x);
      const vec other = 1.0f - gate, given = load_first(dy + r * stride + j, lanes);
      const vec inner = given * at * (1.0f - slope) * gate * other;
      store_first(dz + r * stride + j, given * (gate + slope * other) + scale * (inner - one - x * two), lanes);
    }
  }
}

void BackSums::add(const BatchDice& dice, const float* z, const float* dy, long rows) {
  for (long j = 0; j < dice.columns; j += LANES) {
    const long lanes = std::min(LANES, dice.columns - j);
    const vec alphas = load(dice.alpha + j), centre = load(dice.mean + j), scale = load(dice.inverse + j);
    vec of_slope{}, of_scaled{}, of_alpha{};
    for (long r = 0; r < rows; ++r) {
      const vec at = load_first(z + r * dice.stride + j, lanes), x = (at - centre) * scale, gate = sigmoid(x);
      const vec moved = load_first(dy + r * dice.stride + j, lanes) * at;
      const vec inner = moved * (1.0f - alphas) * gate * (1.0f - gate);
      of_slope = of_slope + inner, of_scaled = of_scaled + inner * x, of_alpha = of_alpha + moved * (1.0f - gate);
    }
    store(&slope[j], load(&slope[j]) + of_slope);
    store(&scaled[j], load(&scaled[j]) + of_scaled);
    store(&alpha[j], load(&alpha[j]) + of_alpha);
  }
}

void BackSums::add(const BackSums& other) {
  for (size_t j = 0; j < slope.size(); ++j)
    slope[j] += other.slope[j], scaled[j] += other.scaled[j], alpha[j] += other.alpha[j];
}

}  // namespace recarena
