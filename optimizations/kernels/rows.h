// Raw ids to table rows, many at once.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

extern "C" {

enum { PLAIN = 0, HASHED = 1, BUCKET = 2 };

// One categorical column. PLAIN and HASHED read raw ids; BUCKET reads dense column `column`: row 3 + the number of
// `thresholds` (ascending) that the value reaches.
struct RecarenaColumn {
  int64_t kind, rows, column, threshold_count;
  const float* thresholds;
};
}

namespace recarena {

// 1 + mixed mod `modulus` with mixed = the upper 31 bits of a Fibonacci product. The quotient is taken in double
// precision and is off by one at most. `inverse` is 1.0 / modulus.
inline int64_t hash(int64_t raw, int64_t modulus, double inverse) {
  const int64_t mixed = (int64_t)(((uint64_t)raw * 0x9E3779B97F4A7C15ull) >> 33);
  int64_t rest = mixed - (int64_t)((double)mixed * inverse) * modulus;
  rest += rest < 0 ? modulus : 0;
  rest -= rest >= modulus ? modulus : 0;
  return 1 + rest;
}

// The columns of a row, repeated so that short rows fill vectors too.
class RowMap {
 public:
  RowMap(const RecarenaColumn* columns, long count) {
    const long repeats = count ? (MINIMUM + count - 1) / count : 0;
    for (long i = 0; i < repeats * count; ++i) {
      const RecarenaColumn& column = columns[i % count];
      rows_.push_back(column.rows), modulus_.push_back(std::max<int64_t>(column.rows - 1, 1));
      hashed_.push_back(column.kind == HASHED ? -1 : 0), inverse_.push_back(1.0 / (double)modulus_.back());
    }
  }

  // Table rows of n consecutive raw ids, the first one of column 0. Returns -1, or the place of a first plain id that
  // does not lie in its table.
  long map(const int64_t* raw, long n, int64_t* out) const {
    const long period = (long)rows_.size();
    for (long first = 0; first < n; first += period) {
      const long count = std::min(period, n - first);
      if (chunk(raw + first, count, out + first)) continue;
      for (long i = 0; i < count; ++i)
        if (outside(i, raw[first + i])) return first + i;
    }
    return -1;
  }

 private:
  static constexpr long MINIMUM = 64;

  bool outside(long i, int64_t raw) const { return !hashed_[i] && (raw < -1 || raw >= rows_[i]); }

  bool chunk(const int64_t* __restrict raw, long n, int64_t* __restrict out) const {
    const int64_t *rows = rows_.data(), *modulus = modulus_.data(), *hashed = hashed_.data();
    const double* inverse = inverse_.data();
    int64_t bad = 0;
    for (long i = 0; i < n; ++i) {
      const int64_t x = raw[i], row = (hash(x, modulus[i], inverse[i]) & hashed[i]) | (x & ~hashed[i]);
      bad |= ~hashed[i] & (((x < -1) | (x >= rows[i])) ? -1 : 0);
      out[i] = x == -1 ? 0 : row;
    }
    return bad == 0;
  }

  std::vector<int64_t> rows_, modulus_, hashed_;
  std::vector<double> inverse_;
};

// thresholds: ascending; last: the last row of the table.
inline int64_t bucket(float x, const std::vector<float>& thresholds, int64_t last) {
  if (std::isnan(x)) return 0;
  if (x <= 0) return std::min<int64_t>(x == 0 ? 1 : 2, last);
  if (std::isinf(x)) return last;
  return std::min<int64_t>(3 + (std::upper_bound(thresholds.begin(), thresholds.end(), x) - thresholds.begin()), last);
}

}  // namespace recarena
