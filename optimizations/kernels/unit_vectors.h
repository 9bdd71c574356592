// The units of a recurrent layer, a few vectors of them at a time.
#pragma once
#include <type_traits>

#include "vec.h"

namespace recarena {

// The vector v of V, of which only the last one may be cut short. Nothing else is masked: what is read again at once has
// to be forwarded from its store.
template <int V>
inline vec take(const float* p, int v, long last) {
  return v < V - 1 ? load(p + v * LANES) : load_first(p + v * LANES, last);
}

template <int V>
inline void put(float* p, int v, long last, vec x) {
  v < V - 1 ? store(p + v * LANES, x) : store_first(p + v * LANES, x, last);
}

// body<V>(j) for all units, V vectors of them at a time: one vector alone waits for the latency of its long chain of
// operations.
template <class F>
inline void over_units(long hidden, const F& body) {
  long j = 0;
  for (; hidden - j > 3 * LANES; j += 4 * LANES) body(std::integral_constant<int, 4>(), j);
  if (hidden - j > 2 * LANES)
    body(std::integral_constant<int, 3>(), j);
  else if (hidden - j > LANES)
    body(std::integral_constant<int, 2>(), j);
  else if (hidden > j)
    body(std::integral_constant<int, 1>(), j);
}

}  // namespace recarena
