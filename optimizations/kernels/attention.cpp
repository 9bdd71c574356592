// Local activation unit of DIN and of DIEN: a small network rates every step of a history for a candidate.
//
// Its first layer W [q, k, q - k, q * k] is split: (Wq + Wd) q + b once per sample, and for the steps one product
// with the sample's own matrix (Wk - Wd) + Wp diag(q), half the work of the two products that it stands for. No
// [samples, steps, 4 w] tensor exists, masked steps are not computed, and a user's keys are read where they lie.
#include <algorithm>
#include <memory>

#include "activation.h"
#include "gemm.h"
#include "pool.h"

using namespace recarena;

namespace {

constexpr long STEPS = 48;   // steps rated together: their hidden units stay in the first-level cache
constexpr long SAMPLES = 6;  // samples of a tile: rows of the products of the candidate side

struct Layer {
  Packed weights;
  std::vector<float> bias;
  Activation activation;
};

struct Attention {
  long width, query;  // of a key, and of a candidate before its projection
  bool softmax;
  Precision precision;
  std::unique_ptr<Layer> projection;  // candidate [query] to [width]; DIEN
  std::vector<Layer> layers;          // the first one holds (Wq + Wd)
  Packed key_part, product_part;      // (Wk - Wd) and Wp, in fp32
  std::vector<float> score;           // last layer [units], padded
  float score_bias;
  long widest;  // floats of a row of hidden units
};

Layer make_layer(const float* w, const float* bias, long outputs, long inputs, Activation activation, Precision p) {
  Layer layer{make_packed(outputs, inputs, p), {}, std::move(activation)};
  pack(layer.weights, w, inputs);
  layer.bias.assign(layer.weights.padded, 0.0f);
  std::copy(bias, bias + outputs, layer.bias.begin());
  return layer;
}

// out [rows, layer.padded] = activation(a W^T + start)
void run_layer(const Packed& w, const Layer& layer, const float* a, long a_stride, long rows, const float* start,
               float* out, long out_stride) {
  multiply(w, {a, a_stride, rows, start, 0, out, out_stride, false});
  layer.activation.apply(out, out_stride, rows, 0, w.padded);
}

// The sample's own first layer in `own` (operands of the network's precision).
void fold_candidate(const Attention& net, const float* q, Packed& own) {
  for (long p = 0; p < own.panels; ++p) {
    const long columns = own.width(p) * LANES;
    const float *keys = net.key_part.panel(p), *products = net.product_part.panel(p);
    float* to = own.panel(p);
    if (net.precision == BF16) {
      for (long k = 0; k < own.steps; ++k) {
        const bool second = 2 * k + 1 < net.width;
        const float qa = q[2 * k], qb = second ? q[2 * k + 1] : 0.0f;
        for (long j = 0; j < columns; j += LANES) {
          const long even = 2 * k * columns + j, odd = even + columns;
          const vec a = load(keys + even) + load(products + even) * qa;
          const vec b = second ? load(keys + odd) + load(products + odd) * qb : vec{};
          store(to + k * columns + j, pair_bf16(a, b));
        }
      }
      continue;
    }
    for (long k = 0; k < own.steps; ++k)
      for (long j = 0; j < columns; j += LANES) {
        const vec w = load(keys + k * columns + j) + load(products + k * columns + j) * q[k];
        store(to + k * columns + j, net.precision == TF32 ? round_tf32(w) : w);
      }
  }
}

// Ratings of `rows` keys [rows, width] for one candidate; base: its part of the first layer.
void rate(const Attention& net, const Packed& own, const float* base, const float* keys, long rows, float* ratings) {
  const long row = net.widest, operand_row = std::max(row, round_up(net.width, LANES));
  float* units = scratch(1, STEPS * (2 * row + operand_row));
  float *other = units + STEPS * row, *operands = other + STEPS * row;
  const auto operand = [&](const float* from, long stride, long inputs) {
    for (long r = 0; r < rows; ++r) prepare(net.precision, from + r * stride, inputs, operands + r * operand_row);
  };
  const bool plain = net.precision == FP32;
  if (!plain) operand(keys, net.width, net.width);
  run_layer(own, net.layers[0], plain ? keys : operands, plain ? net.width : operand_row, rows, base, units, row);
  for (size_t i = 1; i < net.layers.size(); ++i) {
    const Layer& layer = net.layers[i];
    if (!plain) operand(units, row, layer.weights.inputs);
    run_layer(layer.weights, layer, plain ? units : operands, plain ? row : operand_row, rows, layer.bias.data(),
              other, row);
    std::swap(units, other);
  }
  const long last = net.layers.back().weights.padded;
  for (long r = 0; r < rows; ++r) {
    vec total{};
    for (long j = 0; j < last; j += LANES) total = total + load(units + r * row + j) * load(&net.score[j]);
    ratings[r] = sum(total) + net.score_bias;
  }
}

void softmax(float* x, long n) {
  float top = x[0];
  for (long i = 1; i < n; ++i) top = std::max(top, x[i]);
  vec total{};
  for (long i = 0; i < n; i += LANES) {
    const long lanes = std::min(LANES, n - i);
    store_first(x + i, exp(load_first(x + i, lanes) - top), lanes);
    total = total + load_first(x + i, lanes);
  }
  const float scale = 1.0f / sum(total);
  for (long i = 0; i < n; ++i) x[i] *= scale;
}

void weighted_sum(const float* weights, const float* keys, long steps, long width, float* out) {
  for (long j = 0; j < width; j += LANES) {
    const long lanes = std::min(LANES, width - j);
    vec even{}, odd{};
    long t = 0;
    for (; t + 2 <= steps; t += 2) {
      even = even + weights[t] * load_first(keys + t * width + j, lanes);
      odd = odd + weights[t + 1] * load_first(keys + (t + 1) * width + j, lanes);
    }
    if (t < steps) even = even + weights[t] * load_first(keys + t * width + j, lanes);
    store_first(out + j, even + odd, lanes);
  }
}

struct Call {
  const float *query, *keys;
  const int64_t *lengths, *user_of;
  long steps;
  float* out;
};

// Candidates [rows, width] after projection, and their part of the first layer [rows, padded].
void candidate_side(const Attention& net, const float* query, long rows, float* projected, long stride, float* base) {
  const Layer& first = net.layers[0];
  const auto layer = [&](const Layer& one, const float* from, long from_stride, float* to, long to_stride) {
    float* operands = scratch(2, SAMPLES * round_up(std::max(net.query, net.width), LANES));
    const long width = one.weights.steps;
    for (long r = 0; r < rows; ++r)
      prepare(net.precision, from + r * from_stride, one.weights.inputs, operands + r * width);
    multiply(one.weights, {operands, width, rows, one.bias.data(), 0, to, to_stride, false});
  };
  if (net.projection) {
    layer(*net.projection, query, net.query, projected, stride);
    net.projection->activation.apply(projected, stride, rows, 0, net.projection->weights.padded);
  } else {
    for (long r = 0; r < rows; ++r) std::copy_n(query + r * net.query, net.query, projected + r * stride);
  }
  layer(first, projected, stride, base, first.weights.padded);
}

void run_samples(const Attention& net, const Call& call, long first, long rows) {
  const long stride = round_up(net.width, LANES), padded = net.layers[0].weights.padded;
  float* memory = scratch(0, SAMPLES * (stride + padded) + padded * net.width + round_up(call.steps, LANES));
  float *projected = memory, *base = projected + SAMPLES * stride, *ratings = base + SAMPLES * padded;
  Packed own = net.layers[0].weights;
  own.inputs = net.width, own.data = ratings + round_up(call.steps, LANES);
  candidate_side(net, call.query + first * net.query, rows, projected, stride, base);
  for (long r = 0; r < rows; ++r) {
    const long n = first + r, user = call.user_of ? call.user_of[n] : n, length = call.lengths[user];
    const float* keys = call.keys + user * call.steps * net.width;
    fold_candidate(net, projected + r * stride, own);
    for (long t = 0; t < length; t += STEPS)
      rate(net, own, base + r * padded, keys + t * net.width, std::min(STEPS, length - t), ratings + t);
    if (!net.softmax) {
      weighted_sum(ratings, keys, length, net.width, call.out + n * net.width);
      continue;
    }
    if (length > 0) softmax(ratings, length);
    float* scores = call.out + n * call.steps;
    std::copy_n(ratings, length, scores);
    std::fill(scores + length, scores + call.steps, 0.0f);
  }
}

// Quarter `add` of the weights of [q, k, q - k, q * k], with the quarter of the difference added, taken away or not.
std::vector<float> part_of_first(const float* w, long outputs, long width, int add, int sign_of_difference) {
  std::vector<float> part(outputs * width);
  for (long j = 0; j < outputs; ++j)
    for (long k = 0; k < width; ++k) {
      const float* row = w + j * 4 * width + k;
      part[j * width + k] = row[add * width] + sign_of_difference * row[2 * width];
    }
  return part;
}

Packed packed_part(const std::vector<float>& part, long outputs, long width) {
  Packed packed = make_packed(outputs, width, FP32);
  pack(packed, part.data(), width);
  return packed;
}

}  // namespace

extern "C" {

// One fully connected layer: weight [outputs, inputs]; slope, scale and shift as in Activation, or null.
struct RecarenaLayer {
  const float *weight, *bias, *slope, *scale, *shift;
  long outputs, inputs;
  int kind;
};

// layers[0] has 4 * width inputs, the last one a single output without activation; projection may be null.
void* recarena_attention_new(const RecarenaLayer* layers, long count, const RecarenaLayer* projection, long width,
                             int softmax, int precision) {
  auto* net = new Attention;
  net->width = width, net->query = projection ? projection->inputs : width;
  net->softmax = softmax, net->precision = (Precision)precision;
  const auto activation = [](const RecarenaLayer& l) {
    return Activation((Kind)l.kind, l.outputs, l.slope, l.scale, l.shift);
  };
  if (projection)
    net->projection = std::make_unique<Layer>(make_layer(projection->weight, projection->bias, projection->outputs,
                                                         projection->inputs, activation(*projection), net->precision));
  const long units = layers[0].outputs;
  net->key_part = packed_part(part_of_first(layers[0].weight, units, width, 1, -1), units, width);
  net->product_part = packed_part(part_of_first(layers[0].weight, units, width, 3, 0), units, width);
  const std::vector<float> candidate = part_of_first(layers[0].weight, units, width, 0, 1);
  net->widest = 0;
  for (long i = 0; i + 1 < count; ++i) {
    const RecarenaLayer& l = layers[i];
    const float* weight = i == 0 ? candidate.data() : l.weight;
    const long inputs = i == 0 ? width : l.inputs;
    net->layers.push_back(make_layer(weight, l.bias, l.outputs, inputs, activation(l), net->precision));
    net->widest = std::max(net->widest, net->layers.back().weights.padded);
  }
  net->score.assign(net->layers.back().weights.padded, 0.0f);
  std::copy_n(layers[count - 1].weight, layers[count - 1].inputs, net->score.begin());
  net->score_bias = layers[count - 1].bias[0];
  return net;
}

void recarena_attention_free(void* handle) {
  auto* net = static_cast<Attention*>(handle);
  if (net->projection) release(net->projection->weights);
  for (Layer& layer : net->layers) release(layer.weights);
  release(net->key_part), release(net->product_part);
  delete net;
}

// query [samples, query], keys [users, steps, width], lengths [users], user_of [samples] or null (users = samples).
// out: with softmax the scores [samples, steps], 0 past the length; else the pooled keys [samples, width].
void recarena_attention_run(const void* handle, const float* query, const float* keys, const int64_t* lengths,
                            const int64_t* user_of, long samples, long steps, float* out, int threads) {
  const auto& net = *static_cast<const Attention*>(handle);
  const Call call{query, keys, lengths, user_of, steps, out};
  const long tiles = (samples + SAMPLES - 1) / SAMPLES;
  double work = 0;
  for (const Layer& layer : net.layers) work += (double)layer.weights.outputs * layer.weights.inputs;
  parallel(tiles, worthwhile(threads, work * samples * steps / LANES), [&](long tile) {
    const long first = tile * samples / tiles;
    run_samples(net, call, first, (tile + 1) * samples / tiles - first);
  });
}

}  // extern "C"
