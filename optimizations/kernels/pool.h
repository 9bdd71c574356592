// Work in tiles over a few persistent threads.
#pragma once

namespace recarena {

typedef void (*Task)(const void* context, long tile);

// Runs task(context, 0 .. tiles - 1) on up to `threads` threads, the caller among them, and returns when all are
// done; tiles are taken in order. With threads <= 1, one tile, or too few cores beside what other callers use, all tiles
// run on the caller. Every caller has helpers of its own, which end with it.
void parallel_tiles(long tiles, int threads, Task task, const void* context);

template <class F>
void parallel(long tiles, int threads, const F& body) {
  parallel_tiles(tiles, threads, [](const void* f, long tile) { (*static_cast<const F*>(f))(tile); }, &body);
}

// The `spin`-th turn of a wait for another thread: a pause at first, and after a while the core is left to others.
void wait_a_moment(int spin);

// Waking a thread costs some microseconds: `operations` (multiply-adds) below that are not worth a second one.
inline int worthwhile(int threads, double operations) { return operations < 300e3 ? 1 : threads; }

// 64-byte aligned memory of the calling thread, kept between calls; `slot` tells buffers alive at one time apart.
float* scratch(int slot, long floats);

}  // namespace recarena
