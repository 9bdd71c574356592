// DIEN's auxiliary loss and all of its gradients in one pass (Zhou et al., 2019, section 4.2, equation 4).
//
// A pair is a state of the GRU with the behaviour that follows it and with a sampled one; a small network of sigmoid
// units rates both. The loss is a mean over pairs, so its gradient is known as soon as a rating is, and a tile of pairs
// goes forward and backward while its values are in the cache. The first layer is taken apart: W [s, e] = Ws s + We e,
// the state's part once per pair.
#include <algorithm>
#include <cmath>

#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"

using namespace recarena;

// Pair p: the state at places[p], which rise, of `states` [.., hidden], the behaviour one place further in `history`
// [.., width], and row p of `sampled` [pairs, width]. The last of the layers has one output and no activation.
struct RecarenaAuxiliary {
  const float *states, *history, *sampled;
  const int64_t* places;
  int64_t pairs, hidden, width, layer_count;
  const RecarenaDense* layers;
};

// states and history: as many rows as there are; 0 where no pair is. parameters: weight and bias of every layer, one after
// another.
struct RecarenaAuxiliaryGradients {
  float *states, *history, *sampled, *parameters;
  int64_t rows;
};

namespace {

constexpr long PAIRS = 32;  // of a tile: two rows each

using Call = RecarenaAuxiliary;
using Gradients = RecarenaAuxiliaryGradients;

struct Net {
  long hidden, width;
  TrainedWeights of_state;
  std::vector<TrainedWeights> layers;  // the first one: of the behaviour
  std::vector<float> score;
  float score_bias;
  long widest = 0, unit_floats = 0;  // floats of a row: of the widest layer, of all layers

  explicit Net(const Call& call)
      : hidden(call.hidden),
        width(call.width),
        of_state(call.layers[0].weight, call.layers[0].outputs, hidden, hidden + width, call.layers[0].bias) {
    for (long i = 0; i + 1 < call.layer_count; ++i) {
      const RecarenaDense& l = call.layers[i];
      if (i == 0)
        layers.emplace_back(l.weight + hidden, l.outputs, width, hidden + width, nullptr);
      else
        layers.emplace_back(l.weight, l.outputs, l.inputs, l.inputs, l.bias);
      widest = std::max(widest, layers.back().padded_outputs());
      unit_floats += layers.back().padded_outputs();
    }
    const RecarenaDense& last = call.layers[call.layer_count - 1];
    score.assign(layers.back().padded_outputs(), 0.0f);
    std::copy_n(last.weight, last.inputs, score.begin());
    score_bias = last.bias[0];
  }
};

// Gradients of all parameters, and the loss, summed over a part.
struct Sums {
  WeightSums state_weight;
  std::vector<WeightSums> weights;
  std::vector<float> score;
  std::vector<std::vector<float>> biases;
  double loss = 0.0, score_bias = 0.0;

  explicit Sums(const Net& net)
      : state_weight(net.of_state.outputs(), net.hidden), score(net.score.size(), 0.0f) {
    for (const TrainedWeights& layer : net.layers) {
      weights.emplace_back(layer.outputs(), layer.inputs());
      biases.emplace_back(layer.padded_outputs(), 0.0f);
    }
  }

  void add(const Sums& other) {
    state_weight.add(other.state_weight), add_part(score, other.score);
    for (size_t i = 0; i < weights.size(); ++i) weights[i].add(other.weights[i]), add_part(biases[i], other.biases[i]);
    loss += other.loss, score_bias += other.score_bias;
  }
};

// Buffers of a tile of `rows` pairs; behaviours and what follows from them: clicked ones first, then sampled ones.
struct Tile {
  long rows, state_width, width;
  float *states, *behaviours, *base, *one, *other, *to_inputs;
  std::vector<float*> units;

  Tile(const Net& net, long pairs)
      : rows(pairs), state_width(net.of_state.padded_inputs()), width(net.layers[0].padded_inputs()) {
    const long first = net.layers[0].padded_outputs(), inputs = std::max(state_width, width);
    float* at = scratch(1, PAIRS * (state_width + first + 2 * (width + net.unit_floats + 2 * net.widest + inputs)));
    const auto take = [&](long floats) {
      float* begin = at;
      at += floats;
      return begin;
    };
    states = take(PAIRS * state_width), base = take(PAIRS * first), behaviours = take(2 * PAIRS * width);
    one = take(2 * PAIRS * net.widest), other = take(2 * PAIRS * net.widest), to_inputs = take(2 * PAIRS * inputs);
    for (const TrainedWeights& layer : net.layers) units.push_back(take(2 * PAIRS * layer.padded_outputs()));
  }
};

void read(const Call& call, long first, Tile& tile) {
  for (long r = 0; r < tile.rows; ++r) {
    const int64_t place = call.places[first + r];
    copy_padded(call.states + place * call.hidden, call.hidden, tile.states + r * tile.state_width);
    copy_padded(call.history + (place + 1) * call.width, call.width, tile.behaviours + r * tile.width);
    copy_padded(call.sampled + (first + r) * call.width, call.width, tile.behaviours + (tile.rows + r) * tile.width);
  }
}

void forward(const Net& net, Tile& tile) {
  const long first = net.layers[0].padded_outputs(), rows = tile.rows;
  net.of_state.forward(tile.states, tile.state_width, rows, tile.base, first);
  for (long half = 0; half < 2; ++half)
    net.layers[0].forward(tile.behaviours + half * rows * tile.width, tile.width, rows, tile.base, first,
                          tile.units[0] + half * rows * first, first);
  sigmoid_rows(tile.units[0], 2 * rows * first);
  for (size_t i = 1; i < net.layers.size(); ++i) {
    const long inputs = net.layers[i - 1].padded_outputs(), outputs = net.layers[i].padded_outputs();
    net.layers[i].forward(tile.units[i - 1], inputs, 2 * rows, tile.units[i], outputs);
    sigmoid_rows(tile.units[i], 2 * rows * outputs);
  }
}

// The loss of both ratings of every pair, and the gradient of the last units before their sigmoid in `tile.one`.
void rate(const Net& net, float scale, Tile& tile, Sums& sums) {
  const long width = (long)net.score.size();
  float ratings[2 * PAIRS + LANES] = {}, losses[2 * PAIRS + LANES];
  for (long r = 0; r < 2 * tile.rows; ++r)
    ratings[r] = sum(add_up(tile.units.back() + r * width, net.score.data(), width)) + net.score_bias;
  for (long half = 0; half < 2; ++half) {
    // softplus(-x) of what was clicked, softplus(x) of what was sampled
    const float sign = half ? 1.0f : -1.0f;
    float *from = ratings + half * tile.rows, *loss = losses + half * tile.rows;
    for (long r = 0; r < tile.rows; r += LANES) {
      const long lanes = std::min(LANES, tile.rows - r);
      const vec x = load_first(from + r, lanes) * sign, size = max(x, -x);
      store_first(loss + r, max(x, vec{}) + log1p(exp(-size)), lanes);
      store_first(from + r, sigmoid(x) * (sign * scale), lanes);
    }
  }
  for (long r = 0; r < 2 * tile.rows; ++r) {
    sums.loss += losses[r], sums.score_bias += ratings[r];
    const float* units = tile.units.back() + r * width;
    for (long k = 0; k < width; k += LANES) {
      const vec y = load(units + k);
      store(&sums.score[k], load(&sums.score[k]) + y * ratings[r]);
      store(tile.one + r * width + k, load(&net.score[k]) * ratings[r] * y * (1.0f - y));
    }
  }
}

// The row of a pair, `ahead` of its place, and zeros from the row of the pair before on.
void put_row(const Call& call, long pair, long ahead, const float* from, long width, float* to) {
  const int64_t at = call.places[pair] + ahead, begin = pair ? call.places[pair - 1] + ahead + 1 : 0;
  std::fill(to + begin * width, to + at * width, 0.0f);
  std::memcpy(to + at * width, from, width * sizeof(float));
}

void backward(const Net& net, const Call& call, const Gradients& out, long begin, Tile& tile, Sums& sums) {
  const long rows = tile.rows, first = net.layers[0].padded_outputs();
  for (size_t i = net.layers.size(); i-- > 1;) {
    const TrainedWeights& layer = net.layers[i];
    const long outputs = layer.padded_outputs(), inputs = layer.padded_inputs();
    sums.weights[i].add(tile.one, outputs, tile.units[i - 1], inputs, 2 * rows);
    add_rows(tile.one, outputs, 2 * rows, outputs, sums.biases[i].data());
    layer.backward(tile.one, outputs, 2 * rows, tile.other, inputs);
    sigmoid_back(tile.other, tile.units[i - 1], 2 * rows * inputs);
    std::swap(tile.one, tile.other);
  }
  const TrainedWeights& layer = net.layers[0];
  sums.weights[0].add(tile.one, first, tile.behaviours, tile.width, 2 * rows);
  layer.backward(tile.one, first, 2 * rows, tile.to_inputs, tile.width);
  for (long r = 0; r < rows; ++r) {
    const float *clicked = tile.to_inputs + r * tile.width, *sampled = clicked + rows * tile.width;
    put_row(call, begin + r, 1, clicked, net.width, out.history);
    std::memcpy(out.sampled + (begin + r) * net.width, sampled, net.width * sizeof(float));
  }
  for (long k = 0; k < rows * first; k += LANES) store(tile.one + k, load(tile.one + k) + load(tile.one + rows * first + k));
  sums.state_weight.add(tile.one, first, tile.states, tile.state_width, rows);
  add_rows(tile.one, first, rows, first, sums.biases[0].data());
  net.of_state.backward(tile.one, first, rows, tile.to_inputs, tile.state_width);
  for (long r = 0; r < rows; ++r)
    put_row(call, begin + r, 0, tile.to_inputs + r * tile.state_width, net.hidden, out.states);
}

// Weights and biases, one after another.
void write(const Net& net, const Sums& sums, float* to) {
  const auto matrix = [](const WeightSums& from, const TrainedWeights& layer, long stride, float* out) {
    for (long j = 0; j < layer.outputs(); ++j)
      for (long k = 0; k < layer.inputs(); ++k) out[j * stride + k] = from.at(j, k);
  };
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const TrainedWeights& layer = net.layers[i];
    const long before = i == 0 ? net.hidden : 0, stride = layer.inputs() + before;
    if (i == 0) matrix(sums.state_weight, net.of_state, stride, to);
    matrix(sums.weights[i], layer, stride, to + before);
    to = std::copy_n(sums.biases[i].data(), layer.outputs(), to + layer.outputs() * stride);
  }
  to = std::copy_n(sums.score.data(), net.layers.back().outputs(), to);
  *to = (float)sums.score_bias;
}

}  // namespace

extern "C" {

// The mean over the pairs, of which there has to be one, and its gradients.
float recarena_auxiliary(const RecarenaAuxiliary* given, const RecarenaAuxiliaryGradients* gradients, int threads) {
  const Call& call = *given;
  const Net net(call);
  double work = 6.0 * call.pairs * net.of_state.outputs() * (net.hidden + 2 * net.width);
  const long parts = std::min<long>(parts_for(threads, work / LANES), (call.pairs + PAIRS - 1) / PAIRS);
  std::vector<Sums> sums;
  for (long part = 0; part < parts; ++part) sums.emplace_back(net);
  parallel(parts, threads, [&](long part) {
    const WithoutSubnormals guard;
    (void)guard;
    const long end = (part + 1) * call.pairs / parts;
    for (long first = part * call.pairs / parts; first < end; first += PAIRS) {
      Tile tile(net, std::min(PAIRS, end - first));
      read(call, first, tile);
      forward(net, tile);
      rate(net, 1.0f / (float)call.pairs, tile, sums[part]);
      backward(net, call, *gradients, first, tile, sums[part]);
    }
  });
  const int64_t place = call.places[call.pairs - 1], rows = gradients->rows;
  std::fill(gradients->states + (place + 1) * net.hidden, gradients->states + rows * net.hidden, 0.0f);
  std::fill(gradients->history + (place + 2) * net.width, gradients->history + rows * net.width, 0.0f);
  const Sums& all = add_parts(sums);
  write(net, all, gradients->parameters);
  return (float)(all.loss / (double)call.pairs);
}

}  // extern "C"
