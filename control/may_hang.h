// Work that may never end: a call to a disk or a file server that does not answer can neither be
// broken off nor be waited for.
//
// Each piece has a thread of its own that nobody joins, with the CPU affinity and the privileges of
// its maker. It must own all that it touches: it may go on, or end, long after whoever asked for it
// has gone on without it.
//
// A process with such threads ends by _Exit: what static destructors take away may be in use.
//
// Safe from any thread.
#ifndef GUIDEWAY_CONTROL_MAY_HANG_H_
#define GUIDEWAY_CONTROL_MAY_HANG_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/time/time.h"

namespace guideway {

// Does `work` on such a thread, and destroys it there.
void RunDetached(std::function<void()> work);

// The same, and waits for it. False if it has got nowhere for `limit`, by the steps that it counts,
// and has not ended; it then goes on by itself. While kComputes is set in the steps, it waits for
// nobody, and may take as long as it does.
using Steps = std::atomic<uint64_t>;
inline constexpr uint64_t kComputes = uint64_t{1} << 63;
bool RunWithin(absl::Duration limit, std::function<void(Steps& steps)> work);

// Threads of the process that are at such work. Whoever can do without should not begin with more
// when there are kMaxThreadsApart: a disk hangs.
inline constexpr size_t kMaxThreadsApart = 8;
size_t DetachedThreads();

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_MAY_HANG_H_
