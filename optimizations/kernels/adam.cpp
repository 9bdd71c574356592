// A step of Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1) on all dense parameters
// in one call: m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2, w -= rate m / (sqrt(v) / root + eps).
#include <algorithm>
#include <cmath>
#include <vector>

#include "pool.h"
#include "subnormals.h"
#include "vec.h"

using namespace recarena;

// One parameter of `count` elements, its gradient, both averages, and how many steps it has taken.
struct RecarenaDenseStep {
  const float* gradient;
  int64_t count;
  float *weights, *mean, *square, *steps;
};

struct RecarenaAdamRates {
  double rate, beta1, beta2, eps;
};

namespace {

constexpr long TILE = 16384;  // elements of a task

// rate: the learning rate over 1 - beta1^t; root: the square root of 1 - beta2^t; of_mean, of_square: 1 - beta1 and
// 1 - beta2. In double precision: a float of beta2 has too few digits left of the latter.
struct Rates {
  float rate, of_mean, beta2, of_square, eps, root;

  Rates(const RecarenaAdamRates& given, double step)
      : rate((float)(given.rate / (1.0 - std::pow(given.beta1, step)))),
        of_mean((float)(1.0 - given.beta1)),
        beta2((float)given.beta2),
        of_square((float)(1.0 - given.beta2)),
        eps((float)given.eps),
        root((float)std::sqrt(1.0 - std::pow(given.beta2, step))) {}
};

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
  std::vector<Rates> now;
  double elements = 0.0;
  for (long k = 0; k < count; ++k) {
    now.emplace_back(*rates, *steps[k].steps += 1.0f);
    elements += (double)steps[k].count;
    for (long first = 0; first < steps[k].count; first += TILE)
      tiles.push_back({k, first, std::min<long>(steps[k].count, first + TILE)});
  }
  parallel((long)tiles.size(), worthwhile(threads, elements), [&](long number) {
    const WithoutSubnormals guard;
    (void)guard;
    const Tile& tile = tiles[number];
    move(steps[tile.parameter], now[tile.parameter], tile.first, tile.end);
  });
}

}  // extern "C"
