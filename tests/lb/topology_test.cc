#include "lb/topology.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

struct Case {
  std::vector<std::string> devices;
  std::vector<uint32_t> workers;  // of the configuration; empty: not given
  std::vector<uint32_t> allowed;
  std::string idle;  // empty: not given
};

std::vector<Core> Cores(const std::vector<uint32_t>& ids) {
  std::vector<Core> cores;
  for (uint32_t id : ids) cores.push_back({.id = id});
  return cores;
}

LoadedConfig ConfigOf(const Case& c) {
  LoadedConfig loaded;
  config::Config& config = loaded.config;
  for (uint32_t core : c.workers) config.mutable_dataplane()->add_workers(core);
  config.mutable_dataplane()->set_hugepages(false);
  config.mutable_dataplane()->set_flows_per_worker(1024);
  if (!c.idle.empty()) {
    config.mutable_dataplane()->set_idle(c.idle == "poll" ? config::Idle::poll
                                                          : config::Idle::backoff);
  }
  for (const std::string& device : c.devices) {
    config::Interface* interface = config.add_interfaces();
    interface->set_name(absl::StrCat("nic", config.interfaces_size() - 1));
    interface->set_device(device);
    interface->set_mtu(1500);
    loaded.places[DeviceKey(config.interfaces(config.interfaces_size() - 1))] =
        absl::StrCat("f:5:", config.interfaces_size());
  }
  loaded.places["dataplane.workers"] = "f:2";
  for (size_t i = 0; i < c.workers.size(); ++i) {
    loaded.places[absl::StrCat("dataplane.workers[", i, "]")] = absl::StrCat("f:2:", i);
  }
  return loaded;
}

absl::StatusOr<Plan> PlanOf(const Case& c) {
  std::vector<DeviceFacts> facts;
  for (const std::string& device : c.devices) facts.push_back(FactsByName(DeviceName(device)));
  return MakePlan(ConfigOf(c), facts, Cores(c.allowed));
}

std::string ErrorOf(const Case& c) {
  const absl::StatusOr<Plan> plan = PlanOf(c);
  return plan.ok() ? "no error" : std::string(plan.status().message());
}

// «core: interface:queue …» for each worker, and the control cores.
std::string Short(const Plan& plan) {
  std::string text;
  for (const WorkerPlan& worker : plan.workers) {
    absl::StrAppend(&text, worker.core, ":");
    for (const auto& rx : worker.rx) {
      absl::StrAppend(&text, " ", rx.interface, ".", rx.queue);
    }
    text += " | ";
  }
  text += "control";
  for (uint32_t core : plan.control_cores) absl::StrAppend(&text, " ", core);
  return text;
}

TEST(MakePlan, Rows) {
  struct Row {
    const char* what;
    Case given;
    std::string expected;
  };
  const Row rows[] = {
      {"the default is the highest core", {{"net_tap0"}, {}, {0, 1}, ""}, "1: 0.0 | control 0"},
      {"cores need not be dense", {{"net_tap0"}, {}, {2, 5, 9}, ""}, "9: 0.0 | control 2 5"},
      {"one core is shared", {{"net_tap0"}, {}, {3}, ""}, "3: 0.0 | control 3"},
      {"RSS: queue i to worker i",
       {{"0000:3b:00.0", "0000:3b:00.1"}, {2, 3}, {0, 1, 2, 3}, ""},
       "2: 0.0 1.0 | 3: 0.1 1.1 | control 0 1"},
      {"workers in the order of the configuration",
       {{"0000:3b:00.0"}, {3, 1}, {0, 1, 2, 3}, ""},
       "3: 0.0 | 1: 0.1 | control 0 2"},
      {"a TAP has pairs of queues, and one worker reads them all",
       {{"net_tap0", "net_tap1"}, {1, 2}, {0, 1, 2}, ""},
       "1: 0.0 0.1 | 2: 1.0 1.1 | control 0"},
      {"af_packet delivers to all its queues",
       {{"net_af_packet0,iface=x,qpairs=3"}, {1, 2}, {0, 1, 2}, ""},
       "1: 0.0 0.1 0.2 | 2: | control 0"},
      {"without RSS one queue will do",
       {{"net_ring0", "net_null0"}, {1, 2}, {0, 1, 2}, ""},
       "1: 0.0 | 2: 1.0 | control 0"},
      {"every capture is read",
       {{"net_pcap0,rx_pcap=a,rx_pcap=b,tx_pcap=c"}, {1}, {0, 1}, ""},
       "1: 0.0 0.1 | control 0"},
  };
  for (const Row& row : rows) {
    const absl::StatusOr<Plan> plan = PlanOf(row.given);
    ASSERT_TRUE(plan.ok()) << row.what << ": " << plan.status();
    EXPECT_EQ(Short(*plan), row.expected) << row.what;
  }
}

TEST(MakePlan, EveryQueueHasOneReaderAndEveryWorkerAQueueToSendOn) {
  const std::vector<std::string> kinds = {"0000:3b:00.0",
                                          "net_tap0",
                                          "net_null0",
                                          "net_ring0",
                                          "net_af_packet0,iface=x,qpairs=8",
                                          "net_af_xdp0,iface=x,queue_count=8",
                                          "net_pcap0,rx_pcap=a"};
  for (uint32_t workers = 1; workers <= 8; ++workers) {
    Case c{.devices = kinds, .workers = {}, .allowed = {0}, .idle = ""};
    if (workers > 1) c.devices.pop_back();  // net_pcap has one queue to send on
    for (uint32_t core = 1; core <= workers; ++core) {
      c.workers.push_back(core);
      c.allowed.push_back(core);
    }
    const absl::StatusOr<Plan> plan = PlanOf(c);
    ASSERT_TRUE(plan.ok()) << plan.status();
    std::multiset<std::pair<int, int>> read, there;
    for (const WorkerPlan& worker : plan->workers) {
      for (const auto& rx : worker.rx) read.emplace(rx.interface, rx.queue);
    }
    for (size_t i = 0; i < plan->interfaces.size(); ++i) {
      EXPECT_GE(plan->interfaces[i].tx_queues, workers);
      for (int queue = 0; queue < plan->interfaces[i].rx_queues; ++queue) there.emplace(i, queue);
    }
    EXPECT_EQ(read, there) << workers << " workers";
  }
}

TEST(MakePlan, Errors) {
  struct Row {
    Case given;
    const char* says;
  };
  for (const Row& row : {
           Row{{{"net_tap0"}, {7}, {0, 1}, ""},
               "f:2:0: dataplane.workers[0]: found core 7, which this process may not use; "
               "allowed: 0, 1"},
           Row{{{"0000:3b:00.0"}, {0, 1}, {0, 1}, ""},
               "f:2: dataplane.workers: found [0, 1], all the cores"},
           Row{{{"net_af_packet0,iface=x"}, {1, 2}, {0, 1, 2}, ""},
               "f:5:1: interfaces[nic0].device: found net_af_packet0,iface=x, which has 1 transmit "
               "queue, and each of the 2 workers needs one: write `device: "
               "net_af_packet0,iface=…,qpairs=2`"},
           Row{{{"net_af_xdp0,iface=x"}, {1, 2}, {0, 1, 2}, ""}, "queue_count=2"},
           Row{{{"net_pcap0,rx_pcap=a"}, {1, 2}, {0, 1, 2}, ""},
               "name at most 1 in `dataplane.workers`"},
       }) {
    EXPECT_PRED_FORMAT2(testing::IsSubstring, row.says, ErrorOf(row.given));
  }
}

TEST(MakePlan, Idle) {
  EXPECT_EQ(PlanOf({{"0000:3b:00.0"}, {}, {0, 1}, ""})->idle, Idle::kPoll);
  EXPECT_EQ(PlanOf({{"net_tap0"}, {}, {0, 1}, ""})->idle, Idle::kBackoff);
  EXPECT_EQ(PlanOf({{"0000:3b:00.0", "net_tap0"}, {}, {0, 1}, ""})->idle, Idle::kBackoff);
  EXPECT_EQ(PlanOf({{"0000:3b:00.0"}, {}, {0, 1}, "backoff"})->idle, Idle::kBackoff);
  EXPECT_EQ(PlanOf({{"net_tap0"}, {}, {0, 1}, "poll"})->idle, Idle::kPoll);
}

TEST(MakePlan, WarnsOfWhatIsNotAsGoodAsItCouldBe) {
  EXPECT_TRUE(PlanOf({{"net_tap0"}, {}, {0, 1}, ""})->warnings.empty());
  EXPECT_EQ(PlanOf({{"net_tap0"}, {}, {0}, ""})->warnings.size(), 1u);
  EXPECT_EQ(PlanOf({{"net_tap0"}, {1, 2}, {0, 1, 2}, ""})->warnings.size(), 1u);

  // The device has fewer queues than its kind could have, and is on another node.
  const LoadedConfig config = ConfigOf({{"0000:3b:00.0"}, {1, 2, 3}, {}, ""});
  DeviceFacts facts = FactsByName(DeviceName("0000:3b:00.0"));
  facts.max_rx_queues = 2;
  facts.numa_node = 1;
  const absl::StatusOr<Plan> plan = MakePlan(config, {facts}, {{0, 0}, {1, 1}, {2, 1}, {3, 0}});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(Short(*plan), "1: 0.0 | 2: 0.1 | 3: | control 0");
  ASSERT_EQ(plan->warnings.size(), 2u);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "receive queues for 2 of 3", plan->warnings[0]);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "the worker on core 3 on node 0", plan->warnings[1]);
}

TEST(AllowedCores, ThereIsOne) {
  const std::vector<Core> cores = AllowedCores();
  ASSERT_FALSE(cores.empty());
  EXPECT_TRUE(std::is_sorted(cores.begin(), cores.end(),
                             [](const Core& a, const Core& b) { return a.id < b.id; }));
}

TEST(Describe, NamesEverything) {
  const std::string text =
      Describe(*PlanOf({{"net_tap0,iface=x", "0000:3b:00.0"}, {2, 3}, {0, 1, 2, 3}, ""}));
  for (const char* part : {"cores 0, 1", "core 2, receives from nic0:0 nic0:1 nic1:0",
                           "net_tap0,iface=x, MTU 1500, MAC of the device, 2 receive queues",
                           "2 receive queues by RSS", "backoff", "warning"}) {
    EXPECT_PRED_FORMAT2(testing::IsSubstring, part, text);
  }
}

}  // namespace
}  // namespace guideway
