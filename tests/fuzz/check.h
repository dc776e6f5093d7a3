// What a fuzz target calls to say that its input has broken a promise.
#ifndef GUIDEWAY_TESTS_FUZZ_CHECK_H_
#define GUIDEWAY_TESTS_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>

// Ends the target, in every build; libFuzzer keeps the input. (CHECK is glog's, which maglev/ does
// without.)
#define CHECK_THAT(condition)                                                             \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

#endif  // GUIDEWAY_TESTS_FUZZ_CHECK_H_
