// Feature engineering in one pass: hash, bucketise, normalise, fill, pad, cross, and the expansion of the user side.
#include <cmath>

#include "blocks.h"
#include "pool.h"
#include "rows.h"
#include "vec.h"

using namespace recarena;

extern "C" {

struct RecarenaDense {
  float mean, std;
  int32_t log;
};

struct RecarenaSide {
  int64_t dense_count, id_count, bag_count;
  const RecarenaDense* dense;
  const RecarenaColumn *ids, *bags;
};

// side 0: user, 1: item; left and right: places among the id fields of their side.
struct RecarenaCross {
  int64_t left_side, left, right_side, right, rows;
};
}

namespace {

struct Side {
  long dense_count, bag_count;
  std::vector<float> mean, std;
  std::vector<int32_t> log;
  std::vector<RecarenaColumn> ids;
  std::vector<std::vector<float>> thresholds;  // of the bucket fields
  RowMap id_map;
  std::vector<RowMap> bag_maps;
  bool any_log = false;

  explicit Side(const RecarenaSide& side)
      : dense_count(side.dense_count), bag_count(side.bag_count), ids(side.ids, side.ids + side.id_count),
        id_map(side.ids, side.id_count) {
    const long padded = (dense_count + LANES - 1) / LANES * LANES;
    mean.assign(padded, 0.0f), std.assign(padded, 1.0f), log.assign(padded, 0);
    for (long k = 0; k < dense_count; ++k) {
      mean[k] = side.dense[k].mean, std[k] = side.dense[k].std, log[k] = side.dense[k].log ? -1 : 0;
      any_log |= side.dense[k].log != 0;
    }
    for (const RecarenaColumn& id : ids) thresholds.emplace_back(id.thresholds, id.thresholds + id.threshold_count);
    for (long b = 0; b < bag_count; ++b) bag_maps.emplace_back(side.bags + b, 1);
  }

  long fields() const { return (long)ids.size() + bag_count; }
  bool run(const RecarenaSideCall& call, int64_t* fault) const;

 private:
  void normalise(const float* raw, float* out) const;
  long id_rows(const float* dense, const int64_t* raw, int64_t* out) const;
  bool bag_rows(const RecarenaSideCall& call, int64_t* fault) const;
};

void Side::normalise(const float* raw, float* out) const {
  for (long k = 0; k < dense_count; k += LANES) {
    const long lanes = std::min(LANES, dense_count - k);
    vec x = load_first(raw + k, lanes);
    if (any_log) {
      const vec size = max(-x, x), magnitude = select(size == INFINITY, size, log1p(size));
      ivec logged;
      std::memcpy(&logged, &log[k], sizeof logged);
      x = select(logged, select(x < 0.0f, -magnitude, magnitude), x);
    }
    const vec scaled = (x - load(&mean[k])) / load(&std[k]);
    store_first(out + k, select(scaled == scaled, scaled, vec{}), lanes);
  }
}

// Rows of the id fields of one sample; returns -1, or the field whose raw id lies outside its table.
long Side::id_rows(const float* dense, const int64_t* raw, int64_t* out) const {
  const long count = (long)ids.size();
  int64_t* values = reinterpret_cast<int64_t*>(scratch(0, 2 * count));
  for (long k = 0; k < count; ++k) values[k] = ids[k].kind == BUCKET ? -1 : raw[ids[k].column];
  const long outside = id_map.map(values, count, out);
  for (long k = 0; k < count; ++k)
    if (ids[k].kind == BUCKET) out[k] = bucket(dense[ids[k].column], thresholds[k], ids[k].rows - 1);
  return outside;
}

bool Side::bag_rows(const RecarenaSideCall& call, int64_t* fault) const {
  int64_t next = 0;
  for (int64_t r = 0; r < call.count; ++r)
    for (long b = 0; b < bag_count; ++b) {
      const int64_t bag = (call.index ? call.index[r] : r) * bag_count + b;
      const int64_t first = call.bag_offsets[bag], count = call.bag_offsets[bag + 1] - first;
      if (call.index) call.bag_offsets_out[r * bag_count + b] = next;
      const long outside = bag_maps[b].map(call.bag_values + first, count, call.bag_rows_out + next);
      if (outside >= 0) {
        fault[0] = (int64_t)ids.size() + b, fault[1] = call.bag_values[first + outside];
        return false;
      }
      next += count;
    }
  if (call.index) call.bag_offsets_out[call.count * bag_count] = next;
  return true;
}

bool Side::run(const RecarenaSideCall& call, int64_t* fault) const {
  const long count = (long)ids.size();
  for (int64_t r = 0; r < call.count; ++r) {
    const int64_t row = call.index ? call.index[r] : r;
    const float* dense = call.dense + row * call.dense_stride;
    const int64_t* raw = call.ids + row * call.id_stride;
    normalise(dense, call.dense_out + r * dense_count);
    const long outside = count ? id_rows(dense, raw, call.rows_out + r * count) : -1;
    if (outside >= 0) {
      fault[0] = outside, fault[1] = raw[ids[outside].column];
      return false;
    }
  }
  return bag_rows(call, fault);
}

struct Features {
  Side sides[2];
  long history_width;
  RowMap history_map;
  std::vector<RecarenaCross> crosses;
};

// The behaviours [length] of one row, padded with zeros up to `steps`.
bool history(const Features& features, const int64_t* raw, int64_t length, int64_t steps, int64_t* out, int64_t* fault) {
  const long width = features.history_width;
  const long outside = width ? features.history_map.map(raw, length * width, out) : -1;
  if (outside >= 0) {
    fault[0] = features.sides[0].fields() + features.sides[1].fields() + outside % width;
    fault[1] = raw[outside];
    return false;
  }
  std::fill(out + length * width, out + steps * width, 0);
  return true;
}

bool histories(const Features& features, const RecarenaFeaturesCall& call) {
  const long width = features.history_width;
  for (int64_t r = 0; r < call.history_rows; ++r) {
    const int64_t user = call.history_index ? call.history_index[r] : r;
    const int64_t first = call.history_offsets[user], length = call.history_offsets[user + 1] - first;
    call.lengths_out[r] = length;
    int64_t* out = call.history_out + r * call.steps * width;
    if (!history(features, call.history + first * width, length, call.steps, out, call.fault)) return false;
  }
  return true;
}

void cross(const Features& features, const RecarenaFeaturesCall& call) {
  int64_t* out = call.crosses_out;
  for (int64_t n = 0; n < call.samples; ++n)
    for (const RecarenaCross& field : features.crosses) {
      const auto row = [&](int64_t side, int64_t place) {
        const int64_t r = side == 0 && call.user_of ? call.user_of[n] : n;
        return call.sides[side].rows_out[r * (int64_t)features.sides[side].ids.size() + place];
      };
      // Wraps as 64-bit integers do everywhere; a pair that gives -1 would stand for a missing value.
      const uint64_t left = (uint64_t)row(field.left_side, field.left);
      const int64_t key = (int64_t)((left << 31) + (uint64_t)row(field.right_side, field.right));
      const int64_t modulus = std::max<int64_t>(field.rows - 1, 1);
      *out++ = key == -1 ? 0 : hash(key, modulus, 1.0 / (double)modulus);
    }
}

}  // namespace

extern "C" {

// history [history_width] and crosses [cross_count] describe the columns of a behaviour and the hashed crosses.
void* recarena_features_new(const RecarenaSide* sides, const RecarenaColumn* history, int64_t history_width,
                            const RecarenaCross* crosses, int64_t cross_count) {
  return new Features{{Side(sides[0]), Side(sides[1])},
                      history_width,
                      RowMap(history, history_width),
                      std::vector<RecarenaCross>(crosses, crosses + cross_count)};
}

void recarena_features_free(void* handle) { delete static_cast<Features*>(handle); }

// 0, or 1 with `fault` set: fields count through user ids, user bags, item ids, item bags, history.
int recarena_features_run(const void* handle, const RecarenaFeaturesCall* call) {
  const auto& features = *static_cast<const Features*>(handle);
  if (!features.sides[0].run(call->sides[0], call->fault)) return 1;
  if (!features.sides[1].run(call->sides[1], call->fault)) {
    call->fault[0] += features.sides[0].fields();
    return 1;
  }
  if (!histories(features, *call)) return 1;
  cross(features, *call);
  return 0;
}

// Table rows [rows, steps, history_width] of raw behaviours whose rows begin at `offsets` [rows + 1]; returns as above.
int recarena_features_behaviours(const void* handle, const int64_t* raw, const int64_t* offsets, int64_t rows,
                                 int64_t steps, int64_t* out, int64_t* fault) {
  const auto& features = *static_cast<const Features*>(handle);
  const long width = features.history_width;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = offsets[r + 1] - offsets[r];
    if (!history(features, raw + offsets[r] * width, length, steps, out + r * steps * width, fault)) return 1;
  }
  return 0;
}

// sizes[0]: steps of the padded history, at least 1; sizes[1]: bag values of the rows in `index` (null: of all).
void recarena_features_sizes(const int64_t* index, int64_t count, const int64_t* history_offsets,
                             const int64_t* bag_offsets, int64_t bags, int64_t* sizes) {
  sizes[0] = 1, sizes[1] = 0;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = index ? index[r] : r;
    sizes[0] = std::max(sizes[0], history_offsets[row + 1] - history_offsets[row]);
    sizes[1] += bag_offsets[(row + 1) * bags] - bag_offsets[row * bags];
  }
}

}  // extern "C"
