// The way back through the activation units of trained_attention.cpp.
#include "trained_attention.h"

using namespace recarena;

namespace {

using Gradients = RecarenaRatingGradients;

// Gradients of all parameters, rows in whole vectors, summed over a part.
struct Sums {
  std::vector<float> key_weight, product_weight, score;
  std::vector<std::vector<float>> weights, biases;
  std::vector<BackSums> dice;
  double score_bias = 0.0;

  explicit Sums(const TrainedRating& net)
      : key_weight(net.key.outputs() * net.key.padded_inputs(), 0.0f),
        product_weight(key_weight),
        score(net.score.size(), 0.0f) {
    for (const TrainedWeights& layer : net.layers) {
      weights.emplace_back(layer.outputs() * layer.padded_inputs(), 0.0f);
      biases.emplace_back(layer.padded_outputs(), 0.0f);
    }
    for (long width : net.widths) dice.emplace_back(net.call.dice ? width : 0);
  }

  void add(const Sums& other) {
    add_part(key_weight, other.key_weight), add_part(product_weight, other.product_weight);
    add_part(score, other.score), score_bias += other.score_bias;
    for (size_t i = 0; i < weights.size(); ++i) add_part(weights[i], other.weights[i]), add_part(biases[i], other.biases[i]);
  }
};

// The gradient of the last layer's values, after their activation, in `dy`.
void rating_back(const TrainedRating& net, const Gradients& out, long n, float* dy, Sums& sums) {
  const RecarenaRating& call = net.call;
  const long steps = net.length(n), last = (long)net.widths.size() - 1, width = net.widths[last];
  float *room = scratch(3, steps * width + steps), *slopes = room + steps * width;
  const float* y = net.activated(last, n, room);
  if (call.softmax) {
    const float *scores = call.out + n * call.steps, *given = out.out + n * call.steps;
    float inner = 0.0f;
    for (long t = 0; t < steps; ++t) inner += scores[t] * given[t];
    for (long t = 0; t < steps; ++t) slopes[t] = scores[t] * (given[t] - inner);
  } else {
    const float *given = out.out + n * call.width, *keys = call.keys + n * call.steps * call.width;
    for (long t = 0; t < steps; ++t) {
      vec total{};
      for (long k = 0; k < call.width; k += LANES) {
        const long lanes = std::min<long>(LANES, call.width - k);
        total = total + load_first(given + k, lanes) * load_first(keys + t * call.width + k, lanes);
      }
      slopes[t] = sum(total);
    }
  }
  for (long t = 0; t < steps; ++t) {
    sums.score_bias += slopes[t];
    for (long k = 0; k < width; k += LANES) {
      store(&sums.score[k], load(&sums.score[k]) + load(y + t * width + k) * slopes[t]);
      store(dy + t * width + k, load(&net.score[k]) * slopes[t]);
    }
  }
}

// From the gradient dz of a later layer before its activation to the one of the layer before it, after its activation.
void layer_back(const TrainedRating& net, long layer, long n, const float* dz, float* before, Sums& sums) {
  const TrainedWeights& weights = net.layers[layer - 1];
  const long steps = net.length(n), outputs = weights.padded_outputs(), inputs = weights.padded_inputs();
  const float* y = net.activated(layer - 1, n, scratch(3, steps * net.widest));
  add_outer(dz, outputs, y, inputs, steps, weights.outputs(), weights.inputs(), sums.weights[layer - 1].data(), inputs);
  add_rows(dz, outputs, steps, outputs, sums.biases[layer - 1].data());
  weights.backward(dz, outputs, steps, before, inputs);
}

// What the sample's sum D of outer products [first_units, width] tells of the weights and of its query.
void split_products(const TrainedRating& net, const float* q, const float* outer, float* to_query, Sums& sums) {
  const long width = net.call.width, padded = net.key.padded_inputs();
  for (long k = 0; k < padded; k += LANES) {
    const long lanes = std::min(LANES, width - k);
    const vec query = load(q + k);
    vec total{};
    for (long j = 0; j < net.key.outputs(); ++j) {
      const vec own = load(outer + j * padded + k);
      float *key = &sums.key_weight[j * padded + k], *product = &sums.product_weight[j * padded + k];
      store(key, load(key) + own);
      store(product, load(product) + own * query);
      total = total + own * load_first(net.call.product_weight + j * width + k, lanes);
    }
    store_first(to_query + k, total, lanes);
  }
}

void first_back(const TrainedRating& net, const Gradients& out, long n, const float* dz, Sums& sums) {
  const RecarenaRating& call = net.call;
  const long steps = net.length(n), width = call.width, units = net.widths[0], padded = net.key.padded_inputs();
  const float* keys = call.keys + n * call.steps * width;
  float* base = scratch(3, units + padded * (2 + net.key.outputs()) + net.key.turned().padded * call.first_units);
  float *q = base + units, *zeros = q + padded, *outer = zeros + padded;
  std::fill(base, outer + padded * net.key.outputs(), 0.0f);
  copy_padded(call.query + n * width, width, q);
  add_rows(dz, units, steps, units, base);
  std::copy_n(base, call.first_units, out.base + n * call.first_units);
  add_outer(dz, units, keys, width, steps, net.key.outputs(), width, outer, padded, true);
  split_products(net, q, outer, out.query + n * width, sums);
  const Packed own =
      folded(net.key.turned(), net.product.turned(), q, true, outer + padded * net.key.outputs());
  float* to = out.keys + n * call.steps * width;
  const float* start = zeros;
  if (!call.softmax) {
    start = to;
    for (long t = 0; t < steps; ++t)
      for (long k = 0; k < width; ++k) to[t * width + k] = call.ratings[net.starts[n] + t] * out.out[n * width + k];
  }
  multiply(own, {dz, units, steps, start, call.softmax ? 0 : width, to, width, true});
  std::fill(to + steps * width, to + call.steps * width, 0.0f);
}

void write(const TrainedRating& net, const Sums& sums, const Gradients& out) {
  const auto matrix = [](const std::vector<float>& from, const TrainedWeights& layer, float* to) {
    for (long j = 0; j < layer.outputs(); ++j)
      to = std::copy_n(from.data() + j * layer.padded_inputs(), layer.inputs(), to);
    return to;
  };
  matrix(sums.key_weight, net.key, out.key_weight);
  matrix(sums.product_weight, net.product, out.product_weight);
  float* to = out.parameters;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    to = matrix(sums.weights[i], net.layers[i], to);
    to = std::copy_n(sums.biases[i].data(), net.layers[i].outputs(), to);
  }
  to = std::copy_n(sums.score.data(), net.call.layers[net.call.layer_count - 1].inputs, to);
  *to = (float)sums.score_bias;
}

// Of a layer with Dice: slopes by rows of the batch, the gradient of alpha written.
BackSums over_rows(const TrainedRating& net, const std::vector<Sums>& parts, long layer, const Gradients& out) {
  BackSums total(net.widths[layer]);
  for (const Sums& part : parts) total.add(part.dice[layer]);
  std::copy(total.alpha.begin(), total.alpha.end(), out.alpha + net.units_before(layer));
  for (float& each : total.slope) each /= (float)net.real_steps();
  for (float& each : total.scaled) each /= (float)net.real_steps();
  return total;
}

}  // namespace

namespace recarena {

void backward(const TrainedRating& net, const RecarenaRatingGradients& out) {
  std::vector<Sums> sums;
  for (long part = 0; part < net.parts; ++part) sums.emplace_back(net);
  const long last = (long)net.widths.size() - 1;
  if (!net.call.dice) {
    net.over_samples([&](long part, long n) {
      const long steps = net.length(n);
      float *one = scratch(2, 2 * net.call.steps * net.widest), *other = one + net.call.steps * net.widest;
      rating_back(net, out, n, one, sums[part]);
      for (long i = last; i >= 0; --i) {
        sigmoid_back(one, net.units(i, n), steps * net.widths[i]);
        if (i) layer_back(net, i, n, one, other, sums[part]);
        else first_back(net, out, n, one, sums[part]);
        std::swap(one, other);
      }
    });
    return write(net, add_parts(sums), out);
  }
  float* memory = scratch(2, net.real_steps() * (net.units_before(last + 1)));
  const auto slopes = [&](long layer, long n) {
    return memory + net.real_steps() * net.units_before(layer) + net.starts[n] * net.widths[layer];
  };
  net.over_samples([&](long part, long n) {
    rating_back(net, out, n, slopes(last, n), sums[part]);
    sums[part].dice[last].add(net.dice(last), net.units(last, n), slopes(last, n), net.length(n));
  });
  for (long i = last; i >= 0; --i) {
    const BackSums over = over_rows(net, sums, i, out);
    net.over_samples([&](long part, long n) {
      float* own = slopes(i, n);
      net.dice(i).backward(net.units(i, n), net.length(n), over.slope.data(), over.scaled.data(), own, own);
      if (!i) return first_back(net, out, n, own, sums[part]);
      layer_back(net, i, n, own, slopes(i - 1, n), sums[part]);
      sums[part].dice[i - 1].add(net.dice(i - 1), net.units(i - 1, n), slopes(i - 1, n), net.length(n));
    });
  }
  write(net, add_parts(sums), out);
}

}  // namespace recarena
