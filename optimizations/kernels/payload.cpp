// Reads the binary form of a served batch in place (layout and checks: harness/transport/wire.py).
//
// Fourteen little-endian integers: magic, total bytes, users, samples, then of the user side and of the item side dense
// columns, id columns, bags per row and bag values, then behaviours and their columns. Sections follow, each aligned to
// eight bytes: dense, ids, bag offsets and bag values of the user side, the same of the item side, history, history
// offsets, user_of.
#include "payload.h"

#include <algorithm>
#include <cstring>

namespace {

constexpr uint64_t MAGIC = 0x3151455243524152;  // "RARCREQ1"
constexpr int64_t MAX_COUNT = (int64_t)1 << 40;

struct Header {
  uint64_t magic;
  int64_t total, users, samples;
  struct {
    int64_t dense, ids, bags, values;
  } sides[2];
  int64_t behaviours, history_columns;
};
static_assert(sizeof(Header) == 14 * 8, "a header is fourteen integers");

// Hands out the sections one after another; `past` once one does not lie within the payload.
class Sections {
 public:
  Sections(const char* bytes, int64_t total) : bytes_(bytes), total_(total), position_(sizeof(Header)) {}

  // rows times columns, plus one: at most 2^80.
  template <typename T>
  const T* take(int64_t rows, int64_t columns, int64_t more = 0) {
    const __int128 size = ((__int128)rows * columns + more) * (int64_t)sizeof(T), padded = (size + 7) / 8 * 8;
    const T* section = reinterpret_cast<const T*>(bytes_ + position_);
    past |= padded > total_ - position_;
    if (!past) position_ += (int64_t)padded;
    return section;
  }

  bool complete() const { return position_ == total_; }

  bool past = false;

 private:
  const char* bytes_;
  const int64_t total_;
  int64_t position_;
};

bool ascending(const int64_t* offsets, int64_t count, int64_t values) {
  int64_t descents = 0;
  for (int64_t k = 0; k < count; ++k) descents |= offsets[k + 1] < offsets[k];
  return !descents && offsets[0] == 0 && offsets[count] == values;
}

bool within(const int64_t* users_of, int64_t samples, int64_t users) {
  int64_t outside = 0;
  for (int64_t n = 0; n < samples; ++n) outside |= (users_of[n] < 0) | (users_of[n] >= users);
  return !outside;
}

}  // namespace

extern "C" int recarena_payload_read(const void* bytes, int64_t size, RecarenaQuery* query, RecarenaColumns* columns) {
  Header header;
  if (size < (int64_t)sizeof header || reinterpret_cast<uintptr_t>(bytes) % 8) return NO_HEADER;
  std::memcpy(&header, bytes, sizeof header);  // read once: others may write to this memory
  if (header.magic != MAGIC) return WRONG_MAGIC;
  if (header.total < (int64_t)sizeof header || header.total > size) return WRONG_SIZE;
  int64_t counts[12];
  std::memcpy(counts, reinterpret_cast<const char*>(&header) + 16, sizeof counts);
  for (const int64_t count : counts)
    if (count < 0 || count > MAX_COUNT) return WRONG_COUNT;

  Sections sections(static_cast<const char*>(bytes), header.total);
  query->users = header.users, query->samples = header.samples;
  for (int s = 0; s < 2; ++s) {
    const auto& counted = header.sides[s];
    const int64_t rows = s == 0 ? header.users : header.samples;
    RecarenaRawSide& side = query->sides[s];
    side.dense = sections.take<float>(rows, counted.dense), side.dense_stride = counted.dense;
    side.ids = sections.take<int64_t>(rows, counted.ids), side.id_stride = counted.ids;
    side.bag_offsets = sections.take<int64_t>(rows, counted.bags, 1);
    side.bag_values = sections.take<int64_t>(counted.values, 1);
    columns->dense[s] = counted.dense, columns->ids[s] = counted.ids, columns->bags[s] = counted.bags;
  }
  query->history = sections.take<int64_t>(header.behaviours, header.history_columns);
  query->history_offsets = sections.take<int64_t>(header.users, 1, 1);
  query->user_of = sections.take<int64_t>(header.samples, 1);
  columns->history = header.history_columns;
  if (sections.past) return PAST_THE_END;
  if (!sections.complete()) return BYTES_LEFT;

  if (!ascending(query->history_offsets, header.users, header.behaviours)) return WRONG_OFFSETS;
  for (int s = 0; s < 2; ++s) {
    const int64_t rows = s == 0 ? header.users : header.samples;
    if (!ascending(query->sides[s].bag_offsets, rows * header.sides[s].bags, header.sides[s].values))
      return WRONG_OFFSETS;
  }
  return within(query->user_of, header.samples, header.users) ? WELL_FORMED : WRONG_USER;
}
