#include "tools/live_view.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "control/config/config_values.h"

namespace guideway {
namespace {

constexpr absl::Duration kShortest = absl::Milliseconds(100);
constexpr absl::Duration kLongest = absl::Hours(24);

// The alternate screen, no cursor, no wrapping of long lines; and back.
constexpr char kEnter[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
constexpr char kLeave[] = "\033[?7h\033[?25h\033[?1049l";

void Write(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno != EINTR) return;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

// --- the terminal, as signal handlers see it -----------------------------------------------------

termios cooked;                     // as it was found
bool has_keys = false;              // standard input is a terminal
volatile sig_atomic_t open_ = 0;    // a Screen is
volatile sig_atomic_t resized = 0;  // since it was last drawn

void Enter() {
  if (has_keys) {
    termios raw = cooked;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  }
  Write(kEnter);
}

void Leave() {
  if (open_ == 0) return;
  Write(kLeave);
  if (has_keys) tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
}

// Everything here may be called in a signal handler.
void OnSignal(int number) {
  const int error = errno;
  switch (number) {
    case SIGWINCH: resized = 1; break;
    case SIGTSTP:
      Leave();
      raise(SIGSTOP);
      Enter();
      resized = 1;
      break;
    case SIGINT: Leave(); _exit(kYes);
    default:
      Leave();
      signal(number, SIG_DFL);
      raise(number);  // comes when this handler has returned
  }
  errno = error;
}

// With a size, whatever the terminal knows of it.
Terminal SizedTerminal() {
  Terminal terminal = Terminal::Stdout();
  if (terminal.width == 0) terminal.width = 80;
  if (terminal.height == 0) terminal.height = 24;
  return terminal;
}

// One at a time.
class Screen {
 public:
  Screen() {
    has_keys = tcgetattr(STDIN_FILENO, &cooked) == 0;
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    sigfillset(&action.sa_mask);
    open_ = 1;
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      // What is ignored, as under nohup, stays so.
      if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
    }
    // Comes in Wait alone, so that none is missed between a look at the size and the wait.
    sigset_t winch;
    sigemptyset(&winch);
    sigaddset(&winch, SIGWINCH);
    sigprocmask(SIG_BLOCK, &winch, &unblocked_);
    Enter();
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() {
    Leave();
    open_ = 0;  // from here on a handler leaves nothing
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigprocmask(SIG_SETMASK, &unblocked_, nullptr);
  }

  // Lines from the top; those that do not fit are left out.
  static void Show(absl::string_view text, const Terminal& terminal) {
    std::vector<absl::string_view> lines = absl::StrSplit(absl::StripSuffix(text, "\n"), '\n');
    std::string more;
    if (lines.size() > terminal.height) {
      const size_t left_out = lines.size() - terminal.height + 1;
      lines.resize(terminal.height);
      more = Coloured(absl::StrCat("… ", Counted(left_out, "more line")), Colour::kDim, terminal);
      lines.back() = more;
    }
    std::string out = "\033[H";
    for (size_t i = 0; i < lines.size(); ++i) {
      absl::StrAppend(&out, i > 0 ? "\r\n" : "", Cut(lines[i], terminal.width), "\033[K");
    }
    Write(absl::StrCat(out, "\033[J"));
  }

  // Until a key is pressed, the size is another, or `until`. False: nobody is there any more.
  bool Wait(absl::Time until, char* key) {
    *key = 0;
    const absl::Duration left = std::max(until - absl::Now(), absl::ZeroDuration());
    const timespec timeout = absl::ToTimespec(left);
    pollfd in = {.fd = has_keys ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    if (ppoll(&in, 1, &timeout, &unblocked_) <= 0) return true;
    return (in.revents & POLLIN) != 0 ? read(STDIN_FILENO, key, 1) > 0 : false;
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGTSTP, SIGWINCH};
  struct sigaction before_[std::size(kSignals)];
  sigset_t unblocked_;
};

// --- the two ways --------------------------------------------------------------------------------

struct Pace {
  absl::Duration interval = absl::Seconds(1);
  uint64_t count = 0;  // 0: until it is ended
};

absl::StatusOr<Pace> PaceOf(const Call& call) {
  Pace pace;
  for (const std::string& text : call.Values("interval")) {
    const absl::StatusOr<absl::Duration> interval = ParseConfigDuration(text);
    if (!interval.ok() || *interval < kShortest || *interval > kLongest) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--interval ", text, " is not a time from 100ms to 24h, such as 500ms or 2s"));
    }
    pace.interval = *interval;
  }
  for (const std::string& text : call.Values("count")) {
    if (!absl::SimpleAtoi(text, &pace.count) || pace.count == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--count ", text, " is not a number from 1 up"));
    }
  }
  return pace;
}

bool InPlace(const Call& call) {
  const char* term = std::getenv("TERM");
  return call.format == Format::kTable && isatty(STDOUT_FILENO) != 0 && term != nullptr &&
         *term != '\0' && absl::string_view(term) != "dumb";
}

// The next time after `last` that is still to come: what was missed is not made up for.
absl::Time Next(absl::Time last, absl::Duration interval) {
  return std::max(last + interval, absl::Now());
}

// As events have it.
std::string ClockText(absl::Time time) {
  return absl::FormatTime("%H:%M:%S UTC", time, absl::UTCTimeZone());
}

// The last refresh that counted; Ok if somebody ended it.
absl::Status ShowInPlace(const Pace& pace, LiveView& view) {
  Screen screen;
  absl::Status status;
  uint64_t shown = 0;
  absl::Time last = absl::Now(), refreshed = last;
  for (;;) {
    resized = 0;
    const Terminal terminal = SizedTerminal();
    std::string text;
    Terminal rest = terminal;
    if (!status.ok()) {
      text = Coloured(absl::StrCat("not refreshed since ", ClockText(refreshed), ": ",
                                   Printable(status.message())),
                      Colour::kRed, terminal) +
             "\n";
      if (rest.height > 1) --rest.height;
    }
    absl::StrAppend(&text, view.Text(rest));
    Screen::Show(text, terminal);
    if (++shown == pace.count) return status;
    const absl::Time next = Next(last, pace.interval);
    while (resized == 0 && absl::Now() < next) {
      char key = 0;
      if (!screen.Wait(next, &key) || key == 'q' || key == 'Q') return absl::OkStatus();
      if (key != 0) {
        view.Key(key);
        break;
      }
    }
    if (absl::Now() < next) {
      --shown;  // the same again
      continue;
    }
    last = next;
    status = view.Refresh(SizedTerminal());
    if (status.ok()) refreshed = absl::Now();
  }
}

// Likewise.
absl::Status ShowBlocks(const Call& call, const Pace& pace, LiveView& view) {
  const char* between = call.format == Format::kTable  ? "\n"
                        : call.format == Format::kYaml ? "---\n"
                                                       : "";
  absl::Time last = absl::Now();
  absl::Status status;
  bool any = false;
  for (uint64_t tried = 0;;) {
    const std::string text = status.ok() ? view.Text(Terminal()) : "";
    if (!text.empty()) {
      std::cout << (any ? between : "") << text << std::flush;
      if (!std::cout) return absl::OkStatus();  // Main says that it could not write
      any = true;
    }
    if ((!text.empty() || !status.ok()) && ++tried == pace.count) return status;
    if (!status.ok()) std::cerr << status.message() << std::endl;
    last = Next(last, pace.interval);
    absl::SleepFor(last - absl::Now());
    status = view.Refresh(Terminal());
  }
}

// --- watch ---------------------------------------------------------------------------------------

class WatchView final : public LiveView {
 public:
  WatchView(const Call& call, const Verb& verb) : call_(call), verb_(verb) {
    for (const Option& option : kWatchOptions) call_.options.erase(std::string(option.name));
  }

  absl::Status Refresh(const Terminal& terminal) override {
    call_.terminal = terminal;
    std::ostringstream out, err;
    int status;
    {
      std::streambuf* const out_before = std::cout.rdbuf(out.rdbuf());
      std::streambuf* const err_before = std::cerr.rdbuf(err.rdbuf());
      const absl::Cleanup restore = [&] {
        std::cout.rdbuf(out_before);
        std::cerr.rdbuf(err_before);
      };
      status = verb_.run(call_);
    }
    status_ = status;
    // A «no» that says nothing of an error is an answer.
    if (status != kYes && !(status == kNo && err.str().empty())) {
      const std::string why = err.str();
      return absl::UnavailableError(absl::StripSuffix(why, "\n"));
    }
    text_ = out.str();
    refreshed_ = absl::Now();
    return absl::OkStatus();
  }

  std::string Text(const Terminal& terminal) const override {
    if (terminal.width == 0) return text_;
    std::string what = absl::StrCat("guideway ", verb_.name);
    for (const std::string& arg : call_.args) absl::StrAppend(&what, " ", arg);
    absl::StrAppend(&what, "  ", ClockText(refreshed_), "  q quits");
    return absl::StrCat(Coloured(what, Colour::kDim, terminal), "\n", Lines(terminal));
  }

  int status() const { return status_; }

 private:
  // What there is room for under the first line, if it is the end that matters; else all.
  std::string Lines(const Terminal& terminal) const {
    if (verb_.newest_last == nullptr || !verb_.newest_last(call_)) return text_;
    std::vector<absl::string_view> lines = absl::StrSplit(absl::StripSuffix(text_, "\n"), '\n');
    if (lines.size() + 1 <= terminal.height) return text_;
    const size_t shown = terminal.height > 2 ? terminal.height - 2 : 1;
    const size_t left_out = lines.size() - shown;
    lines.erase(lines.begin(), lines.begin() + static_cast<ptrdiff_t>(left_out));
    const std::string earlier =
        terminal.height > 2
            ? Coloured(absl::StrCat("… ", left_out, " earlier"), Colour::kDim, terminal) + "\n"
            : "";
    return absl::StrCat(earlier, absl::StrJoin(lines, "\n"), "\n");
  }

  Call call_;
  const Verb& verb_;
  std::string text_;
  absl::Time refreshed_;
  int status_ = kYes;  // of the last run
};

}  // namespace

int ShowLive(const Call& call, absl::string_view verb, LiveView& view) {
  const absl::StatusOr<Pace> pace = PaceOf(call);
  if (!pace.ok()) return WrongCall(pace.status().message(), verb);
  const bool in_place = InPlace(call);
  absl::Status s = view.Refresh(in_place ? SizedTerminal() : Terminal());
  if (s.ok()) s = in_place ? ShowInPlace(*pace, view) : ShowBlocks(call, *pace, view);
  return s.ok() ? kYes : No(s);
}

int Watch(const Call& call, const Verb& verb) {
  WatchView view(call, verb);
  const int status = ShowLive(call, verb.name, view);
  return status == kNo ? view.status() : status;
}

}  // namespace guideway
