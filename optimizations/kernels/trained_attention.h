// What both directions of an activation unit in training share (trained_attention.cpp, trained_attention_back.cpp).
#pragma once
#include <algorithm>
#include <vector>

#include "batch_dice.h"
#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"

// base [samples, first_units], query [samples, width], keys [samples, steps, width], lengths [samples]. layers: those
// after the first one; the last has one output and no activation. softmax: out is [samples, steps], scores that are 0 past
// the length; else [samples, width], the sum of the keys weighted by their ratings.
// Filled on the way forward, read on the way back: units, a block [real steps, units] per layer, the layers' values
// before Dice, after the sigmoid; ratings [real steps] without softmax. alpha, mean, inverse and squares (of deviations
// from the mean) are for Dice, layer after layer. Every number of units counts as whole vectors.
struct RecarenaRating {
  const float *base, *query, *keys;
  const int64_t* lengths;
  int64_t samples, steps, width, first_units;
  const float *key_weight, *product_weight;  // [first_units, width]
  int64_t layer_count, softmax, dice;
  const RecarenaDense* layers;
  const float* alpha;
  float *out, *units, *ratings, *mean, *inverse, *squares;
};

// out: what comes back. base, query and keys as above; key_weight, product_weight; parameters: weight and bias of every
// layer after the first one, one after another; alpha as above.
struct RecarenaRatingGradients {
  const float* out;
  float *base, *query, *keys, *key_weight, *product_weight, *parameters, *alpha;
};

namespace recarena {

// keys + products diag(q), all packed, in `memory`; q [inputs] in whole vectors. `turned`: both are turned weights.
Packed folded(const Packed& keys, const Packed& products, const float* q, bool turned, float* memory);

class TrainedRating {
 public:
  TrainedRating(const RecarenaRating& given, int threads);

  void forward() const;

  long length(long n) const { return starts[n + 1] - starts[n]; }
  long real_steps() const { return starts.back(); }
  float* units(long layer, long n) const { return units_[layer] + starts[n] * widths[layer]; }
  long units_before(long layer) const {
    long total = 0;
    for (long i = 0; i < layer; ++i) total += widths[i];
    return total;
  }
  // Values of a layer after its activation: `units`, or with Dice in `room`.
  const float* activated(long layer, long n, float* room) const;
  BatchDice dice(long layer) const;
  // body(part, sample) for all samples; a part's samples one after another.
  template <class F>
  void over_samples(const F& body) const {
    const auto first = [&](long part) {
      return std::lower_bound(starts.begin(), starts.end() - 1, part * real_steps() / parts) - starts.begin();
    };
    parallel(parts, threads_, [&](long part) {
      const WithoutSubnormals guard;
      (void)guard;
      const long end = part + 1 == parts ? call.samples : first(part + 1);
      for (long n = part ? first(part) : 0; n < end; ++n) body(part, n);
    });
  }

  const RecarenaRating& call;

 private:
  void first_layer(long n) const;
  void next_layer(long layer, long n) const;
  void finish(long n) const;

  int threads_;
  std::vector<float*> units_;

 public:
  TrainedWeights key, product;
  std::vector<TrainedWeights> layers;  // between the hidden layers
  std::vector<float> score;
  float score_bias;
  std::vector<long> starts, widths;  // of the samples' real steps; floats of a row of each hidden layer
  long widest, parts;
};

void backward(const TrainedRating& net, const RecarenaRatingGradients& out);

}  // namespace recarena
