/* Preloaded into a process tree: its wall clock jumps, forwards and backwards, at every reading. CLOCK_MONOTONIC and
   the clocks of CPU time stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static const long STEPS_S[] = {0, 86400, -3600, 31536000, -86400, 7, -31536000, -1};
static atomic_ulong readings;

static long step(void) {
  return STEPS_S[atomic_fetch_add(&readings, 1) % (sizeof STEPS_S / sizeof *STEPS_S)];
}

static int true_time(clockid_t clock, struct timespec *now) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  return next(clock, now);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = true_time(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += step();
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  if (true_time(CLOCK_REALTIME, &precise)) return -1;
  now->tv_sec = precise.tv_sec + step();
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *where) {
  struct timespec precise;
  true_time(CLOCK_REALTIME, &precise);
  precise.tv_sec += step();
  if (where) *where = precise.tv_sec;
  return precise.tv_sec;
}
