#include "lb/privileges.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "dataplane/io/plan.h"

namespace guideway {
namespace {

namespace fs = std::filesystem;

constexpr Capabilities Bit(int capability) { return Capabilities{1} << capability; }

// Of the calling thread. By system calls: this also runs in a signal handler, where libcap and
// libcap-ng, which change the calling thread only, may not be called.
bool DropHere(Capabilities keep) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, held) != 0) return false;
  for (__user_cap_data_struct& word : held) {
    word.permitted &= static_cast<uint32_t>(keep);
    word.effective &= static_cast<uint32_t>(keep);
    word.inheritable = 0;
    keep >>= 32;
  }
  return syscall(SYS_capset, &header, held) == 0;
}

void DropAllHere(int) {
  const int saved = errno;
  DropHere(0);  // whether it worked is read from /proc
  errno = saved;
}

// Whether a thread has no capabilities left and can gain none.
bool HasNone(const fs::path& task) {
  std::ifstream status(task / "status");
  int good = 0;
  for (std::string line; std::getline(status, line);) {
    if (line == "NoNewPrivs:\t1") ++good;
    for (const char* set : {"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"}) {
      if (line.rfind(set, 0) == 0 && line.find_first_not_of('0', 8) == std::string::npos) ++good;
    }
  }
  return good == 5 || !fs::exists(task);  // it may have ended
}

// A signal that nobody uses; 0 if there is none. Drivers (net_tap) take some from below.
int FreeSignal() {
  for (int signal = SIGRTMAX; signal >= SIGRTMIN; --signal) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) return signal;
  }
  return 0;
}

}  // namespace

void DropCapabilitiesHere() { DropHere(0); }

Capabilities NeededWhileRunning(const std::vector<std::string>& devices) {
  Capabilities needed = Bit(CAP_NET_RAW);  // ICMP probes
  for (const std::string& text : devices) {
    const DeviceName device(text);
    // To take the XDP program off. Among the NICs with an address there are those that the kernel's
    // driver shares (mlx5).
    if (device.is_pci || device.IsDriver("net_af_xdp")) {
      needed |= Bit(CAP_NET_ADMIN);
    }
  }
  return needed;
}

// Capabilities belong to threads, and threads of DPDK's are there already: each is made to drop its
// own by a signal, as the C library does it for setuid(2).
absl::Status DropCapabilities(Capabilities keep) {
  const int signal = FreeSignal();
  if (signal == 0) return absl::InternalError("no signal is free to drop capabilities by");
  struct sigaction action = {}, before;
  action.sa_handler = DropAllHere;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  sigaction(signal, &action, &before);

  const pid_t own = gettid();
  std::set<pid_t> asked;
  std::string missing = "?";
  for (int wait = 0; wait < 5000 && !missing.empty(); ++wait) {
    missing.clear();
    for (const auto& entry : fs::directory_iterator("/proc/self/task")) {
      const std::string name = entry.path().filename().string();
      pid_t thread;
      if (!absl::SimpleAtoi(name, &thread) || thread == own || HasNone(entry.path())) continue;
      if (asked.insert(thread).second) syscall(SYS_tgkill, getpid(), thread, signal);
      missing = name;
    }
    if (missing.empty()) break;
    const timespec millisecond = {0, 1'000'000};
    nanosleep(&millisecond, nullptr);
  }
  // A thread that was asked in vain may still come: the handler stays for it.
  if (!missing.empty()) {
    return absl::InternalError(absl::StrCat("thread ", missing, " does not drop its capabilities"));
  }
  sigaction(signal, &before, nullptr);
  if (!DropHere(keep)) {
    return absl::InternalError(absl::StrCat("cannot drop capabilities: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace guideway
