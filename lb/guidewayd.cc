// The daemon: reads the configuration, sets everything up in order, runs the control loop until it
// is told to stop, and takes everything down in reverse.
//
//   history, file ─► configuration that this host can do: Plan, groups, socket lock, address bound
//   ─► EAL ─► interfaces ─► Plan ─► Dataplane ─► API server ─► capabilities dropped
//   ─► Controller: revision kept ─► loop
//
// What can fail comes before the revision is kept: a start that serves nothing leaves no trace in
// the history. What fails before EAL lets the last revision have its turn (ChooseBeginning); from
// there on there is no second try, for EAL starts once in a process.
//
// The main thread is EAL's main lcore and the control thread. SIGTERM and SIGINT stop the daemon,
// SIGHUP has the file read again; a service manager is told of all that. Exit status: 0 stopped as
// asked, 1 could not start (one sentence on stderr says why), 2 wrong call.
#include <gflags/gflags.h>
#include <glog/logging.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "control/api_server.h"
#include "control/config/config.h"
#include "control/controller.h"
#include "control/event_loop.h"
#include "control/history.h"
#include "control/may_hang.h"
#include "control/prober.h"
#include "control/source.h"
#include "dataplane/io/dpdk_dataplane.h"
#include "dataplane/io/eal.h"
#include "dataplane/io/interface.h"
#include "dataplane/io/plan.h"
#include "lb/privileges.h"
#include "lb/service_manager.h"
#include "lb/topology.h"

DEFINE_string(config, "", "the configuration file");
DEFINE_string(eal_args, "", "further arguments for DPDK's environment, separated by spaces");
DEFINE_string(state_directory, "/var/lib/guideway", "where the history of revisions is kept");
DEFINE_bool(dry_run, false, "print what would run on which core and queue, and exit");
DECLARE_bool(version);

// What gflags calls after it has complained about a wrong call. Exported, but in none of its
// headers.
namespace GFLAGS_NAMESPACE {
extern void (*gflags_exitfunc)(int);
}

namespace guideway {
namespace {

constexpr char kUsage[] =
    "usage: guidewayd --config FILE [--state_directory DIR] [--eal_args ARGS] [--dry_run] "
    "[--version]\n"
    "  --config FILE          the configuration file\n"
    "  --state_directory DIR  where the history of revisions is kept; /var/lib/guideway if not "
    "given\n"
    "  --eal_args ARGS        further arguments for DPDK's environment, separated by spaces\n"
    "  --dry_run              print what would run on which core and queue, and exit\n"
    "  --version              print the version, and exit\n"
    "SIGTERM stops the daemon, SIGHUP has FILE read again. Logs go to stderr (glog's flags).\n";

// Whether one of gflags' flags for help is given.
bool HelpIsAsked() {
  for (const char* name :
       {"help", "helpfull", "helpmatch", "helpon", "helppackage", "helpshort", "helpxml"}) {
    const gflags::CommandLineFlagInfo flag = gflags::GetCommandLineFlagInfoOrDie(name);
    if (flag.current_value != flag.default_value) return true;
  }
  return false;
}

// How long a stop waits for the disk; well below TimeoutStopSec of the unit.
constexpr absl::Duration kDiskPatience = absl::Seconds(5);

// Says why the daemon cannot start, and what main returns. What is about the file begins with it.
int Refuse(const absl::Status& status) {
  const std::string text(status.message());
  const bool has_place = absl::StrContains(text, absl::StrCat(FLAGS_config, ":"));
  std::fprintf(stderr, "%s%s\n", has_place ? "" : "guidewayd: ", text.c_str());
  return 1;
}

// Two daemons on one machine differ in their socket, and so in the names of EAL's files.
std::string FilePrefix(const std::string& socket) {
  uint32_t hash = 2166136261u;  // FNV-1a: the same at every start
  for (unsigned char c : socket) hash = (hash ^ c) * 16777619u;
  return absl::StrCat("guideway-", absl::Hex(hash, absl::kZeroPad8));
}

EalOptions EalOptionsOf(const Plan& plan, const std::string& socket) {
  EalOptions options;
  options.file_prefix = FilePrefix(socket);
  options.control_cores = plan.control_cores;
  for (const WorkerPlan& worker : plan.workers) options.worker_cores.push_back(worker.core);
  for (const InterfacePlan& interface : plan.interfaces) {
    options.devices.push_back(interface.device);
  }
  options.hugepages = plan.hugepages;
  for (const PoolPlan& pool : PlanPools(plan)) options.memory_bytes += pool.bytes();
  options.table_bytes = plan.workers.size() * plan.flow_table_bytes();
  options.extra_args =
      absl::StrSplit(absl::string_view(FLAGS_eal_args), ' ', absl::SkipWhitespace());
  return options;
}

// As an error of LoadConfig; `status` is one.
absl::Status At(const LoadedConfig& loaded, absl::string_view key, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(loaded.Where(key), ": ", status.message()));
}
absl::Status AtDevice(const LoadedConfig& loaded, size_t interface, const absl::Status& status) {
  return At(loaded, DeviceKey(loaded.config.interfaces(static_cast<int>(interface))), status);
}

// What a configuration needs of this host before a device is opened, and what of it is held.
struct Footing {
  EalOptions eal;
  ControlAccess access;
  SocketLock lock;
  std::optional<BoundEndpoint> http;
};

absl::StatusOr<Plan> PlanByNames(const LoadedConfig& loaded, const std::vector<Core>& cores) {
  std::vector<DeviceFacts> facts;
  for (const config::Interface& interface : loaded.config.interfaces()) {
    facts.push_back(FactsByName(DeviceName(interface.device())));
  }
  return MakePlan(loaded, facts, cores);
}

// An error is a line about the file, with its place.
absl::StatusOr<Footing> FindFooting(const LoadedConfig& loaded, const std::vector<Core>& cores) {
  const config::Control& control = loaded.config.control();
  absl::StatusOr<Plan> plan = PlanByNames(loaded, cores);
  if (!plan.ok()) return plan.status();
  absl::StatusOr<ControlAccess> access = ControlAccess::ForConfig(loaded);
  if (!access.ok()) return access.status();
  // Another daemon would have the devices, too: it is named first.
  absl::StatusOr<SocketLock> lock = SocketLock::Take(control.socket());
  if (!lock.ok()) return At(loaded, "control.socket", lock.status());
  EalOptions eal = EalOptionsOf(*plan, control.socket());
  for (size_t i = 0; i < eal.devices.size(); ++i) {
    const absl::Status s = CheckMachine({.devices = {eal.devices[i]}, .hugepages = false});
    if (!s.ok()) return AtDevice(loaded, i, s);
  }
  if (const absl::Status s = CheckMachine({.hugepages = eal.hugepages,
                                           .memory_bytes = eal.memory_bytes,
                                           .table_bytes = eal.table_bytes});
      !s.ok()) {
    return At(loaded, "dataplane.hugepages", s);
  }
  Footing footing = {std::move(eal), *std::move(access), *std::move(lock), std::nullopt};
  if (control.has_http()) {
    absl::StatusOr<BoundEndpoint> http = BoundEndpoint::Bind(ParseEndpoint(control.http()).value());
    if (!http.ok()) {
      return absl::UnavailableError(
          absl::StrCat(loaded.Where("control.http"), ": found ", control.http(),
                       ", which cannot be listened on: ", http.status().message(),
                       "; allowed: an address of this host and a port that is free"));
    }
    footing.http = *std::move(http);
  }
  return footing;
}

// Opens the devices, plans again by what they say of themselves, and starts all that runs.
absl::StatusOr<std::unique_ptr<DpdkDataplane>> StartDataplane(Eal& eal, const LoadedConfig& loaded,
                                                              const std::vector<Core>& cores) {
  std::vector<std::unique_ptr<Interface>> interfaces;
  std::vector<DeviceFacts> facts;
  for (const config::Interface& interface : loaded.config.interfaces()) {
    auto attached = Interface::Attach(eal, interface.name(), interface.device());
    if (!attached.ok()) return AtDevice(loaded, interfaces.size(), attached.status());
    facts.push_back((*attached)->facts());
    interfaces.push_back(*std::move(attached));
  }
  absl::StatusOr<Plan> plan = MakePlan(loaded, facts, cores);
  if (!plan.ok()) return plan.status();
  for (const std::string& warning : plan->warnings) LOG(WARNING) << warning;
  return DpdkDataplane::Start(eal, *plan, std::move(interfaces));
}

std::string ServingWhat(const config::Config& config, const Dataplane& dataplane) {
  size_t backends = 0;
  std::vector<std::string> vips, interfaces, cores;
  for (const config::Service& service : config.services()) {
    backends += service.backends_size();
    for (const std::string& vip : service.vips()) {
      if (std::find(vips.begin(), vips.end(), vip) == vips.end()) vips.push_back(vip);
    }
  }
  for (const InterfaceStatus& i : dataplane.interfaces()) {
    interfaces.push_back(absl::StrCat(i.name, " (", i.device, ", ", i.mac.ToString(), ", link ",
                                      i.link_up ? "up" : "down", ")"));
  }
  for (const WorkerStatus& w : dataplane.workers()) cores.push_back(absl::StrCat(w.core));
  constexpr size_t kShown = 8;
  const size_t more = vips.size() > kShown ? vips.size() - kShown : 0;
  vips.resize(vips.size() - more);
  return absl::StrCat(
      "serving ", config.services_size(), " service(s) with ", backends, " backend(s): VIPs ",
      absl::StrJoin(vips, ", "), more > 0 ? absl::StrCat(" and ", more, " more") : "",
      "; interfaces ", absl::StrJoin(interfaces, ", "), "; workers on cores ",
      absl::StrJoin(cores, ", "), "; control socket ", config.control().socket(),
      config.control().has_http()
          ? absl::StrCat("; metrics at http://", config.control().http(), "/metrics")
          : "",
      "; file prefix for DPDK's tools ", FilePrefix(config.control().socket()));
}

// Every probe under way and every connection to the socket holds a file descriptor. Memory that a
// device reads and writes is locked; once CAP_IPC_LOCK is dropped a limit holds for it.
void RaiseLimits() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  limit = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &limit);
}

// One line for the service manager.
std::string StatusLine(const api::Status& status) {
  const std::string& error = status.config_error();
  return absl::StrCat(
      "revision ", status.revision(), " in force",
      status.applied_file().empty() ? "" : absl::StrCat(", applied from ", status.applied_file()),
      error.empty() ? "" : "; the last configuration was refused: ",
      error.substr(0, error.find('\n')));
}

// Hands signals to the controller, for as long as the loop runs.
void AwaitSignals(boost::asio::signal_set& signals, boost::asio::io_context& io,
                  Controller& controller, ServiceManager& manager) {
  signals.async_wait([&](const boost::system::error_code& error, int signal) {
    if (error) return;
    if (signal == SIGHUP) {
      LOG(INFO) << "SIGHUP: reading the configuration again";
      manager.Reloading();
      controller.Reload([&manager](const auto&) { manager.Reloaded(); });
      AwaitSignals(signals, io, controller, manager);
      return;
    }
    LOG(INFO) << (signal == SIGTERM ? "SIGTERM" : "SIGINT") << ": stopping";
    manager.Stopping();
    controller.SetStopping();
    io.stop();
  });
}

// A dry run is about the file alone, and needs no right to read the history.
int DryRun(const std::vector<Core>& cores) {
  const absl::StatusOr<LoadedSource> file = LoadSourceFile(FLAGS_config);
  if (!file.ok()) return Refuse(file.status());
  const absl::StatusOr<Plan> plan = PlanByNames(file->config, cores);
  if (!plan.ok()) return Refuse(plan.status());
  std::fputs(Describe(*plan).c_str(), stdout);
  std::puts("planned from the devices' names; no device was opened");
  return 0;
}

// The history and its last revision, or one of this process alone where the disk does not answer:
// the thread that hangs in it is left behind.
std::unique_ptr<History> OpenHistory() {
  const auto opened = std::make_shared<std::unique_ptr<History>>();
  const auto open = [opened, directory = FLAGS_state_directory, file = FLAGS_config](Steps& steps) {
    DropCapabilitiesHere();
    auto history = std::make_unique<History>(directory, file, History::kMaxRevisions, &steps);
    history->FindLast(&steps);
    *opened = std::move(history);
  };
  if (RunWithin(History::kPatience, open)) return std::move(*opened);
  return std::make_unique<History>(
      FLAGS_state_directory, FLAGS_config,
      absl::StrCat("history: the disk of ", FLAGS_state_directory, " has not answered for ",
                   FormatConfigDuration(History::kPatience),
                   " at the start, so nothing of before is known and nothing is kept by this "
                   "guidewayd; look after the disk and restart it"));
}

int Run() {
  // Caught from here on: one that comes during the start is handled when the loop runs.
  boost::asio::io_context io(1);
  boost::asio::signal_set signals(io, SIGTERM, SIGINT, SIGHUP);
  std::signal(SIGPIPE, SIG_IGN);
  RaiseLimits();

  const std::vector<Core> cores = AllowedCores();
  if (FLAGS_dry_run) return DryRun(cores);

  std::unique_ptr<EventLoop> disk;  // of the history, so it outlives that
  const std::unique_ptr<History> history = OpenHistory();
  std::optional<Footing> footing;
  absl::StatusOr<Beginning> beginning =
      ChooseBeginning(history.get(), FLAGS_config, [&](const LoadedConfig& loaded) {
        footing.reset();
        absl::StatusOr<Footing> found = FindFooting(loaded, cores);
        if (found.ok()) footing = *std::move(found);
        return found.status();
      });
  if (!beginning.ok()) return Refuse(beginning.status());
  const LoadedConfig& loaded = beginning->what.config;
  const std::string socket = loaded.config.control().socket();

  auto eal = Eal::Start(footing->eal);
  if (!eal.ok()) return Refuse(eal.status());
  auto dataplane = StartDataplane(**eal, loaded, cores);
  if (!dataplane.ok()) return Refuse(dataplane.status());

  const std::string serving = ServingWhat(loaded.config, **dataplane);

  std::unique_ptr<EventLoop> loop = NewEventLoop(io);
  // A disk may hang: what is written there holds up no Compile.
  disk = NewEventLoop(io);
  history->Attach(disk.get());
  const std::unique_ptr<Prober> prober = NewProber(io);
  Controller controller(
      loop.get(), prober.get(), dataplane->get(),
      {.config_file = FLAGS_config,
       .version = GUIDEWAY_VERSION,
       .jitter_seed = static_cast<uint64_t>(getpid()),
       .history = history.get(),
       .can_start =
           [&cores](const LoadedConfig& other) { return PlanByNames(other, cores).status(); }},
      *std::move(beginning));
  // Nobody is answered before the loop runs.
  auto server = ApiServer::Listen(io, &controller, socket, {}, std::move(footing->access));
  if (!server.ok()) return Refuse(server.status());
  if (footing->http) {
    const absl::Status s = (*server)->ListenReadOnly(*std::move(footing->http));
    if (!s.ok()) return Refuse(s);
  }
  if (absl::Status s = DropCapabilities(NeededWhileRunning(footing->eal.devices)); !s.ok()) {
    return Refuse(s);
  }
  if (absl::Status s = controller.Start(); !s.ok()) return Refuse(s);
  // Who says that it has started has kept what it started with, or says why not.
  const absl::Status first_kept = history->Finish(History::kPatience);
  if (!first_kept.ok()) LOG(WARNING) << first_kept.message();
  (*eal)->Settle();
  LOG(INFO) << serving;
  malloc_trim(0);  // what loading took

  ServiceManager manager(io, loop.get(), dataplane->get(),
                         [&controller] { return StatusLine(controller.GetStatus()); });
  AwaitSignals(signals, io, controller, manager);
  manager.Serving();
  io.run();

  server->reset();  // removes the socket
  const absl::Status kept = history->Finish(kDiskPatience);
  if (!kept.ok()) LOG(ERROR) << kept.message();
  (*dataplane)->Stop();
  LOG(INFO) << "stopped";
  if (absl::IsDeadlineExceeded(kept)) {
    // The disk's thread cannot be waited for.
    loop.reset();  // a plan that reads flow tables ends before they go
    dataplane->reset();
    eal->reset();
    footing.reset();  // its lock would be there for as long as that thread
    std::_Exit(0);
  }
  return 0;
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  gflags::SetVersionString(GUIDEWAY_VERSION);
  GFLAGS_NAMESPACE::gflags_exitfunc = [](int) { std::exit(2); };
  gflags::ParseCommandLineNonHelpFlags(&argc, &argv, true);
  if (FLAGS_version) {
    std::puts("guidewayd " GUIDEWAY_VERSION);
    return 0;
  }
  if (guideway::HelpIsAsked()) {
    std::fputs(guideway::kUsage, stdout);
    return 0;
  }
  if (argc > 1) {
    std::fprintf(stderr, "guidewayd: «%s» is not expected here\n%s", argv[1], guideway::kUsage);
    return 2;
  }
  if (FLAGS_config.empty()) {
    std::fprintf(stderr, "guidewayd: --config FILE is missing\n%s", guideway::kUsage);
    return 2;
  }
  // What the history and `guideway status` call it means the same to everybody.
  std::error_code error;
  const std::filesystem::path config = std::filesystem::absolute(FLAGS_config, error);
  if (!error) FLAGS_config = config.lexically_normal().string();
  google::InitGoogleLogging(argv[0]);
  const int status = guideway::Run();
  // A thread that hangs in a file: nothing is taken away under it.
  if (guideway::DetachedThreads() > 0) {
    std::fflush(nullptr);
    std::_Exit(status);
  }
  return status;
}
