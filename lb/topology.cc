#include "lb/topology.h"

#include <glog/logging.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "maglev/net.h"

namespace guideway {
namespace {

const Core* FindCore(const std::vector<Core>& cores, uint32_t id) {
  const auto core = std::find_if(cores.begin(), cores.end(), [&](auto& c) { return c.id == id; });
  return core == cores.end() ? nullptr : &*core;
}

std::string Join(const std::vector<uint32_t>& numbers) { return absl::StrJoin(numbers, ", "); }

absl::Status PlanCores(const LoadedConfig& loaded, const std::vector<Core>& allowed, Plan& plan) {
  std::vector<uint32_t> all;
  for (const Core& core : allowed) all.push_back(core.id);
  const auto& workers = loaded.config.dataplane().workers();
  std::vector<uint32_t> wanted(workers.begin(), workers.end());
  if (wanted.empty()) wanted = {all.back()};
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (FindCore(allowed, wanted[i]) == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(loaded.Where(absl::StrCat("dataplane.workers[", i, "]")), ": found core ",
                       wanted[i], ", which this process may not use; allowed: ", Join(all)));
    }
    plan.workers.push_back({.core = wanted[i]});
  }
  for (uint32_t core : all) {
    if (std::find(wanted.begin(), wanted.end(), core) == wanted.end()) {
      plan.control_cores.push_back(core);
    }
  }
  if (!plan.control_cores.empty()) return absl::OkStatus();
  if (all.size() > 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        loaded.Where("dataplane.workers"), ": found [", Join(wanted),
        "], all the cores that this process may use, and the control thread needs one of its "
        "own: leave one out"));
  }
  plan.control_cores = all;
  plan.warnings.push_back(absl::StrCat("the control thread and the worker share core ", all[0],
                                       ", the only one there is"));
  return absl::OkStatus();
}

uint16_t RxQueues(const DeviceFacts& facts, uint16_t workers) {
  if (facts.can_spread) return std::min(workers, facts.max_rx_queues);
  switch (facts.rx_queues) {
    case DeviceFacts::RxQueues::kOne: return 1;
    case DeviceFacts::RxQueues::kLikeTx: return workers;
    case DeviceFacts::RxQueues::kAll: return facts.max_rx_queues;
  }
  return 1;
}

// How to give a device more queues.
std::string MoreQueues(const std::string& device, uint16_t workers) {
  const DeviceName name(device);
  if (name.IsDriver("net_af_packet")) {
    return absl::StrCat("write `device: ", name.name, ",iface=…,qpairs=", workers, "`, or ");
  }
  if (name.IsDriver("net_af_xdp")) {
    return absl::StrCat("write `device: ", name.name, ",iface=…,queue_count=", workers, "`, or ");
  }
  if (name.IsDriver("net_pcap")) return absl::StrCat("give it ", workers, " `tx_pcap`, or ");
  return "";
}

absl::Status PlanInterface(const config::Interface& config, const std::string& where,
                           const DeviceFacts& facts, const std::vector<Core>& cores, Plan& plan) {
  const auto workers = static_cast<uint16_t>(plan.workers.size());
  const auto index = static_cast<uint16_t>(plan.interfaces.size());
  if (facts.max_tx_queues < workers) {
    return absl::FailedPreconditionError(
        absl::StrCat(where, ": found ", config.device(), ", which has ", facts.max_tx_queues,
                     " transmit queue", facts.max_tx_queues == 1 ? "" : "s", ", and each of the ",
                     workers, " workers needs one: ", MoreQueues(config.device(), workers),
                     "name at most ", facts.max_tx_queues, " in `dataplane.workers`"));
  }
  InterfacePlan interface;
  interface.name = config.name();
  interface.device = config.device();
  interface.mtu = static_cast<uint16_t>(config.mtu());
  if (config.has_mac()) interface.mac = MacAddress::Parse(absl::string_view(config.mac())).value();
  interface.rx_queues = RxQueues(facts, workers);
  // A device whose queues come as pairs, or all at once, gets both kinds so.
  interface.tx_queues =
      facts.rx_queues == DeviceFacts::RxQueues::kAll ? facts.max_tx_queues : workers;
  interface.spread = facts.can_spread && interface.rx_queues > 1;
  interface.numa_node = facts.numa_node;

  for (uint16_t queue = 0; queue < interface.rx_queues; ++queue) {
    const uint16_t reader = facts.can_spread ? queue : index % workers;
    plan.workers[reader].rx.push_back({index, queue});
  }
  if (!interface.spread && workers > 1) {
    plan.warnings.push_back(
        absl::StrCat("interface «", interface.name,
                     "» cannot spread packets over several workers: all come to "
                     "the one on core ",
                     plan.workers[facts.can_spread ? 0 : index % workers].core));
  } else if (interface.spread && interface.rx_queues < workers) {
    plan.warnings.push_back(absl::StrCat("interface «", interface.name, "» has receive queues for ",
                                         interface.rx_queues, " of ", workers, " workers"));
  }
  for (const WorkerPlan& worker : plan.workers) {
    const Core* core = FindCore(cores, worker.core);
    if (facts.numa_node >= 0 && core->numa_node >= 0 && facts.numa_node != core->numa_node) {
      plan.warnings.push_back(absl::StrCat("interface «", interface.name, "» is on NUMA node ",
                                           facts.numa_node, ", the worker on core ", worker.core,
                                           " on node ", core->numa_node));
    }
  }
  plan.interfaces.push_back(std::move(interface));
  return absl::OkStatus();
}

}  // namespace

std::vector<Core> AllowedCores() {
  cpu_set_t set;
  CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  std::vector<Core> cores;
  for (uint32_t id = 0; id < CPU_SETSIZE; ++id) {
    if (!CPU_ISSET(id, &set)) continue;
    Core core{.id = id};
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(
             absl::StrCat("/sys/devices/system/cpu/cpu", id), error)) {
      // A link «node0».
      const std::string name = entry.path().filename().string();
      if (name.size() > 4 && name.rfind("node", 0) == 0) core.numa_node = std::atoi(&name[4]);
    }
    cores.push_back(core);
  }
  return cores;
}

absl::StatusOr<Plan> MakePlan(const LoadedConfig& loaded, const std::vector<DeviceFacts>& facts,
                              const std::vector<Core>& allowed) {
  const config::Config& config = loaded.config;
  CHECK(!allowed.empty());
  CHECK_EQ(facts.size(), static_cast<size_t>(config.interfaces_size()));
  const config::Dataplane& dataplane = config.dataplane();
  Plan plan;
  plan.flows_per_worker = dataplane.flows_per_worker();
  plan.hugepages = dataplane.hugepages();
  const bool any_virtual =
      std::any_of(facts.begin(), facts.end(), [](const DeviceFacts& f) { return f.is_virtual; });
  const bool backoff =
      dataplane.has_idle() ? dataplane.idle() == config::Idle::backoff : any_virtual;
  plan.idle = backoff ? Idle::kBackoff : Idle::kPoll;
  if (absl::Status s = PlanCores(loaded, allowed, plan); !s.ok()) return s;
  for (int i = 0; i < config.interfaces_size(); ++i) {
    absl::Status s =
        PlanInterface(config.interfaces(i), loaded.Where(DeviceKey(config.interfaces(i))), facts[i],
                      allowed, plan);
    if (!s.ok()) return s;
  }
  return plan;
}

std::string Describe(const Plan& plan) {
  std::string text = absl::StrCat("control thread   cores ", Join(plan.control_cores), "\n");
  for (size_t i = 0; i < plan.workers.size(); ++i) {
    const WorkerPlan& worker = plan.workers[i];
    std::vector<std::string> queues;
    for (const WorkerPlan::RxQueue& rx : worker.rx) {
      queues.push_back(absl::StrCat(plan.interfaces[rx.interface].name, ":", rx.queue));
    }
    absl::StrAppend(&text,
                    absl::StrFormat("worker %-9d core %d, receives from %s, sends on queue "
                                    "%d of every interface\n",
                                    i, worker.core,
                                    queues.empty() ? "no queue" : absl::StrJoin(queues, " "), i));
  }
  for (const InterfacePlan& interface : plan.interfaces) {
    absl::StrAppend(
        &text,
        absl::StrFormat("interface %-6s %s, MTU %d, MAC %s, %d receive queue%s%s, %d "
                        "transmit queue%s\n",
                        interface.name, interface.device, interface.mtu,
                        interface.mac.has_value() ? interface.mac->ToString() : "of the device",
                        interface.rx_queues, interface.rx_queues == 1 ? "" : "s",
                        interface.spread ? " by RSS" : "", interface.tx_queues,
                        interface.tx_queues == 1 ? "" : "s"));
  }
  for (const PoolPlan& pool : PlanPools(plan)) {
    absl::StrAppend(
        &text,
        absl::StrFormat("packet buffers   %d of %d bytes, %d MiB%s%s\n", pool.buffers, pool.room,
                        (pool.bytes() >> 20) + 1,
                        pool.numa_node < 0 ? "" : absl::StrCat(" on NUMA node ", pool.numa_node),
                        plan.hugepages ? ", huge pages" : ""));
  }
  absl::StrAppend(&text, "flow table       ", plan.flows_per_worker, " entries a worker, ",
                  (plan.flow_table_bytes() >> 20) + 1, " MiB\n");
  absl::StrAppend(&text, "without packets  ",
                  plan.idle == Idle::kPoll ? "poll again" : "sleep briefly (backoff)", "\n");
  for (const std::string& warning : plan.warnings) {
    absl::StrAppend(&text, "warning          ", warning, "\n");
  }
  return text;
}

}  // namespace guideway
