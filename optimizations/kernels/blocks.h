// What the blocks take and how they are run: the part of the C interface that whole programs use, too.
#pragma once
#include <cstdint>

extern "C" {

// Raw columns of one side and where its engineered columns go. index [count]: the raw row of every output row, or
// null for all rows in order. bag_offsets_out: written only with an index.
struct RecarenaSideCall {
  const float* dense;
  const int64_t *ids, *bag_values, *bag_offsets, *index;
  int64_t dense_stride, id_stride, count;
  float* dense_out;
  int64_t *rows_out, *bag_rows_out, *bag_offsets_out;
};

// history_index [history_rows]: user of every padded row, or null. user_of [samples]: row of rows_out of the user
// side that a sample crosses with, or null. fault: {field, value} of a raw id outside its table.
struct RecarenaFeaturesCall {
  RecarenaSideCall sides[2];
  const int64_t *history, *history_offsets, *history_index, *user_of;
  int64_t history_rows, steps, samples;
  int64_t *history_out, *lengths_out, *crosses_out, *fault;
};

// Rows to look up on one side: rows [count, ids], bags as in a batch; out [count, width of the side].
struct RecarenaLookup {
  const int64_t *rows, *bag_rows, *bag_offsets;
  int64_t count;
  float* out;
};

// Real steps of every user, out of `steps`; summed [users, width of a behaviour]: the sum over them.
struct RecarenaHistory {
  const int64_t* lengths;
  int64_t steps;
  float* summed;
};

int recarena_features_run(const void* handle, const RecarenaFeaturesCall* call);
void recarena_features_sizes(const int64_t* index, int64_t count, const int64_t* history_offsets,
                             const int64_t* bag_offsets, int64_t bags, int64_t* sizes);
void recarena_embedding_run(const void* handle, const RecarenaLookup* lookups, const RecarenaHistory* history,
                            int threads);
void recarena_wide_run(const void* handle, const RecarenaLookup* lookups, const float* user_dense,
                       const float* item_dense, const int64_t* crosses, const int64_t* user_of, float* logit);
void recarena_fc_run(const void* handle, const float* x, long rows, float* out, int threads);
void recarena_fc_split_run(const void* handle, const float* user_x, long users, const float* x, const int64_t* user_of,
                           long rows, float* out, int threads);
void recarena_interaction_run(const float* vectors, long samples, long count, long width, float* out, int precision,
                              int threads);
void recarena_gru_run(const void* handle, const float* x, const int64_t* lengths, long users, long steps,
                      float* states, int threads);
void recarena_augru_run(const void* handle, const float* x, const int64_t* lengths, const int64_t* user_of,
                        const float* scores, long users, long samples, long steps, float* out, int threads);
void recarena_attention_run(const void* handle, const float* query, const float* keys, const int64_t* lengths,
                            const int64_t* user_of, long samples, long steps, float* out, int threads);
}
