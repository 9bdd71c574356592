// Numbers below 1e-38 become 0, as in the thread that trains (zoo.learning.without_subnormals): helpers have settings
// of their own.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recarena {

// While one of these lives, in the thread that made it.
class WithoutSubnormals {
#if defined(__x86_64__)
 public:
  WithoutSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~WithoutSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

}  // namespace recarena
