// A batch as it is served, and its binary form.
#pragma once
#include <cstdint>

extern "C" {

struct RecarenaRawSide {
  const float* dense;
  const int64_t *ids, *bag_values, *bag_offsets;
  int64_t dense_stride, id_stride;
};

// user_of [samples]; scores [samples]; fault: as in features.
struct RecarenaQuery {
  int64_t users, samples;
  RecarenaRawSide sides[2];
  const int64_t *history, *history_offsets, *user_of;
  float* scores;
  int64_t* fault;
};

// Raw columns per row of either side, and per behaviour.
struct RecarenaColumns {
  int64_t dense[2], ids[2], bags[2], history;
};

// What is wrong with a payload.
enum {
  WELL_FORMED = 0,
  NO_HEADER = 1,      // fewer bytes than the header has, or not aligned to eight
  WRONG_MAGIC = 2,
  WRONG_SIZE = 3,     // the size that it announces is not that of a payload within these bytes
  WRONG_COUNT = 4,
  PAST_THE_END = 5,   // a section reaches past the announced size
  BYTES_LEFT = 6,     // the sections end before it
  WRONG_OFFSETS = 7,  // they do not ascend from 0 to the number of values
  WRONG_USER = 8,     // user_of names a user that is not there
};
// Why a payload that is well-formed has no scores.
enum {
  OTHER_COLUMNS = 9,       // not those that the program reads
  NO_ROOM = 10,            // for the scores of so many samples
  OUTSIDE_ITS_TABLE = 11,  // a raw id of a field that is not hashed
};

// Points `query` (all but scores and fault) and `columns` to what lies in `bytes` [size]; more bytes than the payload
// has are allowed. Returns one of the first kind; what is not well-formed leaves both unspecified.
int recarena_payload_read(const void* bytes, int64_t size, RecarenaQuery* query, RecarenaColumns* columns);
}
