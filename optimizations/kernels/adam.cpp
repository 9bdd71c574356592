// A step of Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1) on all dense parameters
// in one call: m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2, w -= rate m / (sqrt(v) / root + eps).
#include <algorithm>
#include <vector>

#include "pool.h"
#include "subnormals.h"
#include "vec.h"

using namespace recarena;

// One parameter of `count` elements, its gradient, and both averages.
struct RecarenaDenseStep {
  const float* gradient;
  int64_t count;
  float *weights, *mean, *square;
};

// rate: the learning rate over 1 - beta1^t; root: the square root of 1 - beta2^t; of_mean, of_square: 1 - beta1 and
// 1 - beta2, of which the latter would lose digits here.
struct RecarenaAdamRates {
  float rate, of_mean, beta2, of_square, eps, root;
};

namespace {

constexpr long TILE = 16384;  // elements of a task

using Rates = RecarenaAdamRates;

struct Tile {
  long parameter, first, end;
};

void move(const RecarenaDenseStep& step, const Rates& rates, long first, long end) {
  for (long k = first; k < end; k += LANES) {
    const long lanes = std::min(LANES, end - k);
    const vec gradient = load_first(step.gradient + k, lanes), old = load_first(step.mean + k, lanes);
    const vec mean = old + (gradient - old) * rates.of_mean;
    const vec square = load_first(step.square + k, lanes) * rates.beta2 + gradient * gradient * rates.of_square;
    store_first(step.mean + k, mean, lanes), store_first(step.square + k, square, lanes);
    const vec moved = mean / (square_root(square) / rates.root + rates.eps);
    store_first(step.weights + k, load_first(step.weights + k, lanes) - moved * rates.rate, lanes);
  }
}

}  // namespace

extern "C" {

void recarena_adam(const RecarenaDenseStep* steps, int64_t count, const RecarenaAdamRates* rates, int threads) {
  std::vector<Tile> tiles;
  double elements = 0.0;
  for (long k = 0; k < count; ++k) {
    elements += (double)steps[k].count;
    for (long first = 0; first < steps[k].count; first += TILE)
      tiles.push_back({k, first, std::min<long>(steps[k].count, first + TILE)});
  }
  parallel((long)tiles.size(), worthwhile(threads, elements), [&](long number) {
    const WithoutSubnormals guard;
    (void)guard;
    const Tile& tile = tiles[number];
    move(steps[tile.parameter], *rates, tile.first, tile.end);
  });
}

}  // extern "C"
