// The activation units of DIN and DIEN in training: ratings of the real steps of all histories, forward and backward.
//
// The first layer W [q, k, q - k, q * k] is taken apart as in attention.cpp: `base` = (Wq + Wd) q + b comes from outside,
// and a sample's steps are multiplied by its own matrix (Wk - Wd) + Wp diag(q). The way back mirrors it: one sum of outer
// products per sample, D = sum dz k^T, is the gradient of Wk - Wd, D diag(q) that of Wp, and the column sums of D * Wp
// that of q. With sigmoid units a sample goes through all layers at once. Dice takes the mean and the variance of a
// layer over the whole batch, so layers follow one another there, each over all samples.
#include "trained_attention.h"

#include <algorithm>

using namespace recarena;

namespace {

void softmax(const float* ratings, long count, float* scores) {
  float largest = ratings[0], total = 0.0f;
  for (long t = 1; t < count; ++t) largest = std::max(largest, ratings[t]);
  for (long t = 0; t < count; t += LANES) {
    const long lanes = std::min(LANES, count - t);
    store_first(scores + t, exp(load_first(ratings + t, lanes) - largest), lanes);
  }
  for (long t = 0; t < count; ++t) total += scores[t];
  for (long t = 0; t < count; ++t) scores[t] /= total;
}

}  // namespace

Packed recarena::folded(const Packed& keys, const Packed& products, const float* q, bool turned, float* memory) {
  Packed own = keys;
  own.data = memory;
  for (long p = 0; p < own.panels; ++p) {
    const long columns = own.width(p) * LANES;
    const float *key = keys.panel(p), *product = products.panel(p), *lanes = q + own.first(p) * LANES;
    float* to = own.panel(p);
    for (long k = 0; k < own.steps; ++k)
      for (long j = 0; j < columns; j += LANES) {
        const long at = k * columns + j;
        store(to + at, load(key + at) + load(product + at) * (turned ? load(lanes + j) : splat(q[k])));
      }
  }
  return own;
}

TrainedRating::TrainedRating(const RecarenaRating& given, int threads)
    : call(given),
      threads_(threads),
      key(given.key_weight, given.first_units, given.width, given.width, nullptr),
      product(given.product_weight, given.first_units, given.width, given.width, nullptr),
      starts(given.samples + 1, 0) {
  for (long n = 0; n < call.samples; ++n) starts[n + 1] = starts[n] + (long)std::min(call.lengths[n], call.steps);
  widths.push_back(key.padded_outputs());
  for (long i = 0; i + 1 < call.layer_count; ++i) {
    const RecarenaDense& l = call.layers[i];
    layers.emplace_back(l.weight, l.outputs, l.inputs, l.inputs, l.bias);
    widths.push_back(layers.back().padded_outputs());
  }
  float* at = call.units;
  for (long width : widths) units_.push_back(at), at += width * real_steps();
  const RecarenaDense& last = call.layers[call.layer_count - 1];
  score.assign(widths.back(), 0.0f);
  std::copy_n(last.weight, last.inputs, score.begin());
  score_bias = last.bias[0];
  widest = *std::max_element(widths.begin(), widths.end());
  const double per_step = 2.0 * call.first_units * call.width;
  parts = std::min<long>(std::max<long>(1, call.samples), parts_for(threads, per_step * real_steps() / LANES));
}

void TrainedRating::first_layer(long n) const {
  const long steps = length(n), width = call.width;
  float *base = scratch(1, widths[0] + product.padded_inputs() + key.packed().padded * width), *q = base + widths[0];
  copy_padded(call.base + n * call.first_units, call.first_units, base);
  copy_padded(call.query + n * width, width, q);
  const Packed own = folded(key.packed(), product.packed(), q, false, q + product.padded_inputs());
  multiply(own, {call.keys + n * call.steps * width, width, steps, base, 0, units(0, n), widths[0], false});
}

void TrainedRating::finish(long n) const {
  const long steps = length(n), last = (long)widths.size() - 1;
  float *memory = scratch(1, round_up(call.steps, LANES) + call.steps * widest), *ratings = memory;
  const float* y = activated(last, n, memory + round_up(call.steps, LANES));
  if (!call.softmax) ratings = call.ratings + starts[n];
  for (long t = 0; t < steps; ++t) ratings[t] = sum(add_up(y + t * widths[last], score.data(), widths[last])) + score_bias;
  if (call.softmax) {
    float* scores = call.out + n * call.steps;
    if (steps > 0) softmax(ratings, steps, scores);
    std::fill(scores + steps, scores + call.steps, 0.0f);
    return;
  }
  const float* keys = call.keys + n * call.steps * call.width;
  for (long k = 0; k < call.width; k += LANES) {
    const long lanes = std::min<long>(LANES, call.width - k);
    vec total{};
    for (long t = 0; t < steps; ++t) total = total + load_first(keys + t * call.width + k, lanes) * ratings[t];
    store_first(call.out + n * call.width + k, total, lanes);
  }
}

const float* TrainedRating::activated(long layer, long n, float* room) const {
  if (!call.dice) return units(layer, n);
  dice(layer).forward(units(layer, n), length(n), room);
  return room;
}

BatchDice TrainedRating::dice(long layer) const {
  const long at = units_before(layer);
  return {call.alpha + at, call.mean + at, call.inverse + at, widths[layer], widths[layer]};
}

void TrainedRating::next_layer(long layer, long n) const {
  float* room = scratch(1, call.steps * widest);
  layers[layer - 1].forward(activated(layer - 1, n, room), widths[layer - 1], length(n), units(layer, n), widths[layer]);
}

void TrainedRating::forward() const {
  const long count = (long)widths.size();
  if (!call.dice)
    return over_samples([&](long, long n) {
      for (long i = 0; i < count; ++i) {
        i ? next_layer(i, n) : first_layer(n);
        sigmoid_rows(units(i, n), length(n) * widths[i]);
      }
      finish(n);
    });
  for (long i = 0; i < count; ++i) {
    std::vector<Moments> moments(parts, Moments(widths[i]));
    over_samples([&](long part, long n) {
      i ? next_layer(i, n) : first_layer(n);
      moments[part].add(units(i, n), widths[i], length(n), widths[i]);
    });
    for (long part = 1; part < parts; ++part) moments[0].add(moments[part]);
    const std::vector<float> inverse = inverse_deviation(moments[0]);
    const long at = units_before(i);
    std::copy(inverse.begin(), inverse.end(), call.inverse + at);
    std::copy(moments[0].mean.begin(), moments[0].mean.end(), call.mean + at);
    std::copy(moments[0].squares.begin(), moments[0].squares.end(), call.squares + at);
  }
  over_samples([&](long, long n) { finish(n); });
}

extern "C" {

void recarena_rating_forward(const RecarenaRating* call, int threads) { TrainedRating(*call, threads).forward(); }

void recarena_rating_backward(const RecarenaRating* call, const RecarenaRatingGradients* gradients, int threads) {
  backward(TrainedRating(*call, threads), *gradients);
}

}  // extern "C"
