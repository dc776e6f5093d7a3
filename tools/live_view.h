// What is shown again and again: in place on a terminal, as one block after the other elsewhere.
//
// On a terminal it takes the alternate screen, fits its size and follows it, and leaves it as it
// found it: at `q`, at Ctrl-C (exit status 0), Ctrl-Z, and when a signal ends the program. While
// there is no answer, or a refusal, it says why, keeps what it had, and goes on.
//
// Blocks, for pipes, files, dumb terminals, and every format but tables, are whole and plain.
#ifndef GUIDEWAY_TOOLS_LIVE_VIEW_H_
#define GUIDEWAY_TOOLS_LIVE_VIEW_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tools/verbs.h"

namespace guideway {

class LiveView {
 public:
  virtual ~LiveView() = default;
  // Asks the daemon. After an error `Text` stays what it was.
  virtual absl::Status Refresh(const Terminal& terminal) = 0;
  // All there is to see, lines with a line feed each, for this terminal or, in the format that was
  // asked for, for none. Empty: nothing yet.
  virtual std::string Text(const Terminal& terminal) const = 0;
  // A key was pressed, other than `q`.
  virtual void Key(char) {}
};

// The options --interval and --count, which ShowLive reads.
inline constexpr Option kIntervalOption = {"interval", "TIME",
                                           "how often, such as 2s; 1s if not given"};
inline constexpr Option kCountOption = {"count", "N", "end after so many times"};

// Shows `view` until it is ended, or --count times, of a call of `verb`. The exit status; kNo if
// the first Refresh fails, or the last of --count. One that fails counts; a Text that is empty does
// not, and is not a block.
int ShowLive(const Call& call, absl::string_view verb, LiveView& view);

// The option --watch, and what it does: runs a verb that shows something again and again.
inline constexpr Option kWatchOption = {"watch", "", "again and again, until q or Ctrl-C"};
int Watch(const Call& call, const Verb& verb);
inline constexpr Option kWatchOptions[] = {kWatchOption, kIntervalOption, kCountOption};

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_LIVE_VIEW_H_
