#include "dataplane/io/eal.h"

#include <glog/logging.h>
#include <linux/capability.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_pdump.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "dataplane/io/plan.h"

namespace guideway {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = uint64_t{1} << 20;
// What drivers and EAL itself take, besides the packet buffers.
constexpr uint64_t kBaseMemory = 48 * kMiB;

// The first line of a file, or what `fallback` says.
std::string ReadLine(const fs::path& path, const std::string& fallback = "") {
  std::ifstream file(path);
  std::string line;
  return std::getline(file, line) ? line : fallback;
}

bool HasCapability(const std::string& root, int capability) {
  std::ifstream status(root + "/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    uint64_t bits;
    if (line.rfind("CapEff:\t", 0) == 0 && absl::SimpleHexAtoi(line.substr(8), &bits)) {
      return (bits >> capability & 1) != 0;
    }
  }
  return true;  // not told: let the kernel decide
}

absl::Status CheckPermission(const std::string& root, const std::string& device, int capability,
                             const char* name) {
  if (HasCapability(root, capability)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("device «", device, "» needs the capability ",
                                                  name,
                                                  ": start the daemon as root, or give it that "
                                                  "capability"));
}

absl::Status CheckTap(const DeviceName& device, const std::string& text, const std::string& root) {
  if (!fs::exists(root + "/dev/net/tun")) {
    return absl::NotFoundError(absl::StrCat("device «", text,
                                            "» needs /dev/net/tun, which is not there: `modprobe "
                                            "tun`, or pass it into the container"));
  }
  if (absl::Status s = CheckPermission(root, text, CAP_NET_ADMIN, "CAP_NET_ADMIN"); !s.ok()) {
    return s;
  }
  const std::string iface = device.Argument("iface").value_or("");
  if (iface.size() > 15) {
    return absl::InvalidArgumentError(
        absl::StrCat("device «", text, "»: «", iface,
                     "» is too long: the kernel allows names of 15 characters"));
  }
  if (!iface.empty() && fs::exists(root + "/sys/class/net/" + iface)) {
    return absl::FailedPreconditionError(
        absl::StrCat("device «", text, "»: there is a network interface «", iface,
                     "» already: another daemon has it, or it was left over; `ip link del ", iface,
                     "`, or choose another name"));
  }
  return absl::OkStatus();
}

// AF_XDP takes packets from the queues it is bound to; what arrives on others goes to the kernel,
// and nobody counts it.
void WarnOfOtherQueues(const DeviceName& device, const std::string& text,
                       const fs::path& directory) {
  int queues = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory / "queues", error)) {
    if (entry.path().filename().string().rfind("rx-", 0) == 0) ++queues;
  }
  int bound = 1;
  if (!absl::SimpleAtoi(device.Argument("queue_count").value_or("1"), &bound)) return;
  if (queues <= bound) return;
  const std::string iface = directory.filename().string();
  LOG(WARNING) << "device «" << text << "»: " << iface << " has " << queues
               << " receive queues and AF_XDP reads " << bound
               << " of them: the kernel gets the rest of the packets, uncounted. `ethtool -L "
               << iface << " combined " << bound << "`, or `queue_count=" << queues << "`";
}

absl::Status CheckKernelInterface(const DeviceName& device, const std::string& text,
                                  const std::string& root) {
  const std::optional<std::string> iface = device.Argument("iface");
  if (!iface.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device «", text, "» does not say which network interface: write «", text, ",iface=NAME»"));
  }
  const fs::path directory = fs::path(root + "/sys/class/net/" + *iface);
  if (!fs::exists(directory)) {
    return absl::NotFoundError(
        absl::StrCat("device «", text, "»: there is no network interface «", *iface,
                     "» in /sys/class/net; `ip link` shows those of this namespace"));
  }
  if (device.IsDriver("net_af_xdp")) WarnOfOtherQueues(device, text, directory);
  return CheckPermission(root, text, CAP_NET_RAW, "CAP_NET_RAW");
}

absl::Status CheckPcap(const DeviceName& device, const std::string& text, const std::string& root) {
  for (const std::string& argument : device.arguments) {
    if (argument.rfind("rx_pcap=", 0) == 0) {
      const std::string file = root + argument.substr(8);
      if (access(file.c_str(), R_OK) != 0) {
        return absl::NotFoundError(absl::StrCat("device «", text, "»: cannot read the capture ",
                                                file, ": ", std::strerror(errno)));
      }
    }
    if (argument.rfind("tx_pcap=", 0) == 0) {
      const fs::path directory = fs::path(root + argument.substr(8)).parent_path();
      const std::string name = directory.empty() ? "." : directory.string();
      if (access(name.c_str(), W_OK) != 0) {
        return absl::NotFoundError(absl::StrCat("device «", text, "»: cannot write into ", name,
                                                ": ", std::strerror(errno)));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPci(const DeviceName& device, const std::string& text, const std::string& root) {
  const std::string& address = device.name;
  const fs::path directory = fs::path(root + "/sys/bus/pci/devices") / address;
  if (!fs::exists(directory)) {
    return absl::NotFoundError(absl::StrCat("device «", text, "»: there is no PCI device ", address,
                                            " here; `dpdk-devbind.py --status` lists them"));
  }
  std::error_code error;
  const std::string driver = fs::read_symlink(directory / "driver", error).filename().string();
  // Mellanox NICs stay with their kernel driver, which shares them.
  if (driver != "vfio-pci" && driver != "mlx5_core" && driver != "mlx4_core") {
    return absl::FailedPreconditionError(
        absl::StrCat("device «", text, "» is ",
                     driver.empty() ? "bound to no driver"
                                    : absl::StrCat("in the hands of the kernel's ", driver),
                     ": `modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci ", address, "`"));
  }
  if (driver == "vfio-pci" && access((root + "/dev/vfio/vfio").c_str(), R_OK | W_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("device «", text, "»: cannot open /dev/vfio/vfio: ", std::strerror(errno),
                     "; start the daemon as root, or give it access to that file"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(const std::string& text, const std::string& root) {
  const DeviceName device(text);
  if (device.is_pci) return CheckPci(device, text, root);
  if (device.IsDriver("net_tap") || device.IsDriver("net_tun")) return CheckTap(device, text, root);
  if (device.IsDriver("net_af_packet") || device.IsDriver("net_af_xdp")) {
    return CheckKernelInterface(device, text, root);
  }
  if (device.IsDriver("net_pcap")) return CheckPcap(device, text, root);
  return absl::OkStatus();
}

// Where a hugetlbfs is mounted.
std::vector<std::string> HugetlbfsMounts(const std::string& root) {
  std::vector<std::string> result;
  std::ifstream mounts(root + "/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 2 && fields[2] == "hugetlbfs") result.push_back(fields[1]);
  }
  return result;
}

// The files of EAL's huge pages. EAL leaves some behind, and all that a tool asked for which then
// died; each holds its page until somebody removes it.
void RemoveHugePages(const std::string& file_prefix) {
  for (const std::string& mount : HugetlbfsMounts("")) {
    std::error_code error, ignored;
    for (fs::directory_iterator it(mount, error), end; it != end; it.increment(error)) {
      if (absl::StartsWith(it->path().filename().string(), file_prefix + "map_")) {
        fs::remove(it->path(), ignored);
      }
    }
  }
}

// `tables`: what flow tables will take if it is there.
absl::Status CheckHugePages(uint64_t needed, uint64_t tables, const std::string& root) {
  uint64_t free_bytes = 0;
  std::map<uint64_t, std::string> sizes;  // in KiB
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root + "/sys/kernel/mm/hugepages", error)) {
    // hugepages-2048kB
    const std::string name = entry.path().filename().string();
    const uint64_t size = std::strtoull(name.c_str() + name.find('-') + 1, nullptr, 10);
    sizes[size] = name;
    free_bytes +=
        size * 1024 * std::strtoull(ReadLine(entry.path() / "free_hugepages").c_str(), nullptr, 10);
  }
  static constexpr char kWithout[] = "do without them: `dataplane: { hugepages: false }`";
  if (sizes.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("this kernel has no huge pages; ", kWithout));
  }
  if (free_bytes < needed) {
    const auto& [size, name] = *sizes.begin();
    const std::string directory = absl::StrCat("/sys/kernel/mm/hugepages/", name);
    const uint64_t reserved =
        std::strtoull(ReadLine(root + directory + "/nr_hugepages").c_str(), nullptr, 10);
    const uint64_t more = (needed + tables - free_bytes + size * 1024 - 1) / (size * 1024);
    return absl::FailedPreconditionError(
        absl::StrCat("packet buffers and DPDK need ", (needed + kMiB - 1) / kMiB,
                     " MiB of huge pages, flow tables want ", (tables + kMiB - 1) / kMiB, " MiB, ",
                     free_bytes / kMiB, " MiB are free: `echo ", reserved + more, " > ", directory,
                     "/nr_hugepages`, or ", kWithout));
  }
  const std::vector<std::string> mounts = HugetlbfsMounts(root);
  if (!mounts.empty() && access((root + mounts.front()).c_str(), W_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot write into ", mounts.front(),
                     ", where huge pages are mounted: start the daemon "
                     "as root, mount one for its user, or ",
                     kWithout));
  }
  return absl::OkStatus();
}

google::LogSeverity SeverityOf(int dpdk_level) {
  if (dpdk_level <= static_cast<int>(RTE_LOG_ERR)) return google::GLOG_ERROR;
  if (dpdk_level == static_cast<int>(RTE_LOG_WARNING)) return google::GLOG_WARNING;
  return google::GLOG_INFO;
}

}  // namespace

absl::Status CheckMachine(const EalOptions& options, const std::string& root) {
  for (const std::string& device : options.devices) {
    if (absl::Status s = CheckDevice(device, root); !s.ok()) return s;
  }
  return options.hugepages
             ? CheckHugePages(options.memory_bytes + kBaseMemory, options.table_bytes, root)
             : absl::OkStatus();
}

// The stream that DPDK logs to. DPDK writes a message at a time, from any of its threads.
class Eal::Log {
 public:
  Log() {
    const cookie_io_functions_t functions = {
        .read = nullptr, .write = Write, .seek = nullptr, .close = nullptr};
    stream_ = fopencookie(this, "w", functions);
    CHECK(stream_ != nullptr);
    setvbuf(stream_, nullptr, _IOLBF, BUFSIZ);
    CHECK_EQ(rte_openlog_stream(stream_), 0);
  }
  ~Log() {
    rte_openlog_stream(nullptr);
    fclose(stream_);
  }

  std::string TakeComplaints() {
    const std::lock_guard lock(mutex_);
    return complaints_.empty()
               ? ""
               : absl::StrCat(" (DPDK says: ", absl::StrJoin(std::exchange(complaints_, {}), "; "),
                              ")");
  }
  void Settle() {
    const std::lock_guard lock(mutex_);
    settled_ = true;
    complaints_.clear();
  }

 private:
  static ssize_t Write(void* cookie, const char* bytes, size_t size) {
    auto* log = static_cast<Log*>(cookie);
    for (absl::string_view line :
         absl::StrSplit(absl::string_view(bytes, size), '\n', absl::SkipWhitespace())) {
      log->Line(rte_log_cur_msg_loglevel(), std::string(line));
    }
    return static_cast<ssize_t>(size);
  }

  void Line(int level, const std::string& line) {
    const google::LogSeverity severity = SeverityOf(level);
    {
      const std::lock_guard lock(mutex_);
      if (!settled_ && severity != google::GLOG_INFO) complaints_.push_back(line);
      // Information is for those who ask; complaints are held back while starting.
      if (!settled_ || severity == google::GLOG_INFO) {
        VLOG(1) << "DPDK: " << line;
        return;
      }
    }
    google::LogMessage("dpdk", 0, severity).stream() << line;
  }

  FILE* stream_;
  std::mutex mutex_;
  bool settled_ = false;                 // guarded by mutex_
  std::vector<std::string> complaints_;  // guarded by mutex_
};

absl::StatusOr<std::unique_ptr<Eal>> Eal::Start(const EalOptions& options) {
  CHECK(!options.control_cores.empty());
  if (absl::Status s = CheckMachine(options); !s.ok()) return s;

  const uint64_t megabytes = (options.memory_bytes + kBaseMemory + kMiB - 1) / kMiB;
  std::vector<std::string> arguments = {"guidewayd", "--file-prefix", options.file_prefix};
  std::string lcores = absl::StrCat("0@(", absl::StrJoin(options.control_cores, ","), ")");
  for (size_t i = 0; i < options.worker_cores.size(); ++i) {
    absl::StrAppend(&lcores, ",", i + 1, "@", options.worker_cores[i]);
  }
  arguments.insert(arguments.end(), {"--lcores", lcores, "--main-lcore", "0"});
  bool any_pci = false;
  for (const std::string& device : options.devices) {
    if (!DeviceName(device).is_pci) continue;
    any_pci = true;
    arguments.insert(arguments.end(), {"--allow", device});
  }
  if (!any_pci) arguments.insert(arguments.end(), {"--no-pci", "--iova-mode", "va"});
  if (!options.hugepages) {
    arguments.insert(arguments.end(), {"--no-huge", "-m", absl::StrCat(megabytes)});
  } else if (HugetlbfsMounts("").empty()) {
    arguments.push_back("--in-memory");
  }
  arguments.insert(arguments.end(), options.extra_args.begin(), options.extra_args.end());
  VLOG(1) << "EAL arguments: " << absl::StrJoin(arguments, " ");

  auto log = std::make_unique<Log>();
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  if (rte_eal_init(static_cast<int>(arguments.size()), argv.data()) < 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "DPDK's environment does not start: ", rte_strerror(rte_errno), log->TakeComplaints()));
  }
  // Lets dpdk-dumpcap ask for copies of packets; until it does, no packet notices. It needs memory
  // that another process can map.
  if (rte_eal_has_hugepages() != 0 && rte_pdump_init() != 0) {
    LOG(WARNING) << "no captures by dpdk-dumpcap: " << rte_strerror(rte_errno);
  }
  log->TakeComplaints();  // they were of no consequence
  return std::unique_ptr<Eal>(new Eal(std::move(log)));
}

Eal::Eal(std::unique_ptr<Log> log) : log_(std::move(log)) {}

Eal::~Eal() {
  log_->Settle();
  const fs::path files = rte_eal_get_runtime_dir();
  if (rte_eal_has_hugepages() != 0) rte_pdump_uninit();
  rte_eal_cleanup();
  std::error_code error;
  fs::remove_all(files, error);  // which EAL leaves behind; the prefix makes them ours
  RemoveHugePages(files.filename().string());
}

std::string Eal::TakeComplaints() { return log_->TakeComplaints(); }

void Eal::Settle() { log_->Settle(); }

}  // namespace guideway
