// The daemon: reads the configuration, sets everything up in order, runs the control loop until it
// is told to stop, and takes everything down in reverse.
//
//   history, file ─► configuration ─► socket lock ─► Plan ─► EAL ─► interfaces ─► Plan ─► Dataplane
//   ─► Controller
//                                     ─► API server ─► capabilities dropped ─► loop
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
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "control/api_server.h"
#include "control/config/config.h"
#include "control/controller.h"
#include "control/event_loop.h"
#include "control/history.h"
#include "control/prober.h"
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

// Says why the daemon cannot start, and what main returns.
int Refuse(const absl::Status& status) {
  std::fprintf(stderr, "guidewayd: %s\n", std::string(status.message()).c_str());
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
  options.extra_args =
      absl::StrSplit(absl::string_view(FLAGS_eal_args), ' ', absl::SkipWhitespace());
  return options;
}

// Opens the devices, plans again by what they say of themselves, and starts all that runs.
absl::StatusOr<std::unique_ptr<DpdkDataplane>> StartDataplane(Eal& eal,
                                                              const config::Config& config,
                                                              const std::vector<Core>& cores) {
  std::vector<std::unique_ptr<Interface>> interfaces;
  std::vector<DeviceFacts> facts;
  for (const config::Interface& interface : config.interfaces()) {
    auto attached = Interface::Attach(eal, interface.name(), interface.device());
    if (!attached.ok()) return attached.status();
    facts.push_back((*attached)->facts());
    interfaces.push_back(*std::move(attached));
  }
  absl::StatusOr<Plan> plan = MakePlan(config, facts, cores);
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

int Run() {
  // Caught from here on: one that comes during the start is handled when the loop runs.
  boost::asio::io_context io(1);
  boost::asio::signal_set signals(io, SIGTERM, SIGINT, SIGHUP);
  std::signal(SIGPIPE, SIG_IGN);
  RaiseLimits();

  // A dry run is about the file alone, and needs no right to read the history.
  const auto history = FLAGS_dry_run
                           ? std::make_unique<History>()
                           : std::make_unique<History>(FLAGS_state_directory, FLAGS_config);
  absl::StatusOr<Beginning> beginning = ChooseBeginning(history.get(), FLAGS_config);
  if (!beginning.ok()) {
    std::fprintf(stderr, "%s\n", std::string(beginning.status().message()).c_str());
    return 1;
  }
  const LoadedConfig& loaded = beginning->what.config;
  const config::Config& config = loaded.config;
  const std::string socket = config.control().socket();
  const std::string http = config.control().http();

  const std::vector<Core> cores = AllowedCores();
  std::vector<DeviceFacts> facts;
  for (const config::Interface& interface : config.interfaces()) {
    facts.push_back(FactsByName(DeviceName(interface.device())));
  }
  absl::StatusOr<Plan> plan = MakePlan(config, facts, cores);
  if (!plan.ok()) return Refuse(plan.status());
  if (FLAGS_dry_run) {
    std::fputs(Describe(*plan).c_str(), stdout);
    std::puts("planned from the devices' names; no device was opened");
    return 0;
  }

  absl::StatusOr<ControlAccess> access = ControlAccess::ForConfig(loaded);
  if (!access.ok()) {
    std::fprintf(stderr, "%s\n", std::string(access.status().message()).c_str());
    return 1;
  }
  absl::StatusOr<SocketLock> lock = SocketLock::Take(socket);
  if (!lock.ok()) return Refuse(lock.status());
  const EalOptions eal_options = EalOptionsOf(*plan, socket);
  auto eal = Eal::Start(eal_options);
  if (!eal.ok()) return Refuse(eal.status());
  auto dataplane = StartDataplane(**eal, config, cores);
  if (!dataplane.ok()) return Refuse(dataplane.status());

  const std::string serving = ServingWhat(config, **dataplane);

  const std::unique_ptr<EventLoop> loop = NewEventLoop(io);
  // A disk may hang: what is written there holds up no Compile.
  const std::unique_ptr<EventLoop> disk = NewEventLoop(io);
  const std::unique_ptr<Prober> prober = NewProber(io);
  Controller controller(loop.get(), prober.get(), dataplane->get(),
                        {.config_file = FLAGS_config,
                         .version = GUIDEWAY_VERSION,
                         .jitter_seed = static_cast<uint64_t>(getpid()),
                         .history = history.get()},
                        *std::move(beginning));
  if (absl::Status s = controller.Start(); !s.ok()) return Refuse(s);
  history->Attach(disk.get());
  auto server = ApiServer::Listen(io, &controller, socket, {}, *std::move(access));
  if (!server.ok()) return Refuse(server.status());
  if (!http.empty()) {
    const absl::Status s = (*server)->ListenReadOnly(ParseEndpoint(http).value());
    if (!s.ok()) return Refuse(s);
  }
  if (absl::Status s = DropCapabilities(NeededWhileRunning(eal_options.devices)); !s.ok()) {
    return Refuse(s);
  }
  (*eal)->Settle();
  LOG(INFO) << serving;
  malloc_trim(0);  // what loading took

  ServiceManager manager(io, loop.get(), dataplane->get(),
                         [&controller] { return StatusLine(controller.GetStatus()); });
  AwaitSignals(signals, io, controller, manager);
  manager.Serving();
  io.run();

  server->reset();  // removes the socket
  (*dataplane)->Stop();
  LOG(INFO) << "stopped";
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
  google::InitGoogleLogging(argv[0]);
  return guideway::Run();
}
