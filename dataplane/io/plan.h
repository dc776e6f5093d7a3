// Who does what: which cores, which queues, which devices. A Plan is plain data. lb/topology makes
// one from the configuration, `guidewayd --dry_run` prints it, and dataplane/io carries it out.
//
//   worker 0  core 2 ──► uplink0 RX queue 0, uplink1 RX queue 0      TX queue 0 of every interface
//   worker 1  core 3 ──► uplink0 RX queue 1, uplink1 RX queue 1      TX queue 1 of every interface
//
// What holds in every Plan:
//   1. Each RX queue of each interface is read by exactly one worker.
//   2. Worker i, and nobody else, sends on TX queue i of every interface.
//   3. All packets of a connection come to one worker. Where a device can be told how to spread
//      packets over RX queues (RSS), queue i goes to worker i. Where it cannot, all that it has
//      goes to a single worker.
//
// No DPDK here, no I/O: all of it can be tested on any machine.
#ifndef GUIDEWAY_DATAPLANE_IO_PLAN_H_
#define GUIDEWAY_DATAPLANE_IO_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "maglev/net.h"

namespace guideway {

// A device as the configuration writes it: a PCI address or the name of a DPDK virtual device, with
// arguments after commas: «net_tap0,iface=gw-uplink», «0000:3b:00.0».
struct DeviceName {
  explicit DeviceName(const std::string& device);

  // The value of the first argument `key=…`; none if there is no such argument.
  std::optional<std::string> Argument(const std::string& key) const;
  size_t CountArguments(const std::string& key) const;
  // A virtual device's driver: «net_tap» of «net_tap0» and of «net_tap_uplink».
  bool IsDriver(const std::string& driver) const { return name.rfind(driver, 0) == 0; }

  // Up to the first comma; of a PCI address DPDK's form, in lower case and with the domain.
  std::string name;
  std::vector<std::string> arguments;
  bool is_pci = false;
};

// What a device can do, as far as it bears on the Plan.
struct DeviceFacts {
  // How many RX queues a device without RSS must have.
  enum class RxQueues : uint8_t {
    kOne,     // one will do
    kLikeTx,  // as many as TX queues: they come in pairs
    kAll,     // every one there is: packets arrive on each whether it is read or not
  };

  bool is_virtual = false;
  bool can_spread = false;  // takes an RSS key and a redirection table
  RxQueues rx_queues = RxQueues::kOne;
  uint16_t max_rx_queues = 1;
  uint16_t max_tx_queues = 1;
  int numa_node = -1;  // -1: none, or unknown
};

// What can be said of a device by its name, before DPDK has opened it. For a virtual device this is
// all there is to know; of a NIC it is a guess: RSS and queues enough.
DeviceFacts FactsByName(const DeviceName& device);

// What a worker does when no packets come.
enum class Idle : uint8_t {
  kPoll,     // asks again at once
  kBackoff,  // sleeps a little, longer each time, for at most a quarter of a millisecond
};

struct InterfacePlan {
  std::string name;
  std::string device;
  uint16_t mtu = 1500;            // largest IP packet, in bytes
  std::optional<MacAddress> mac;  // none: the device's own
  uint16_t rx_queues = 1;
  uint16_t tx_queues = 1;
  bool spread = false;  // RSS over the RX queues
  int numa_node = -1;
};

struct WorkerPlan {
  struct RxQueue {
    uint16_t interface;  // index into Plan::interfaces
    uint16_t queue;

    friend bool operator==(const RxQueue&, const RxQueue&) = default;
  };

  uint32_t core = 0;
  std::vector<RxQueue> rx;
};

struct Plan {
  std::vector<uint32_t> control_cores;  // ascending; those of no worker, unless there is no other
  std::vector<WorkerPlan> workers;      // worker i sends on TX queue i
  std::vector<InterfacePlan> interfaces;
  Idle idle = Idle::kPoll;
  size_t flows_per_worker = 0;
  uint64_t flow_table_bytes() const { return uint64_t{flows_per_worker} * 16; }  // of each worker
  bool hugepages = true;
  std::vector<std::string> warnings;  // of what works, but not as well as it could
};

// Packet buffers, one pool for each NUMA node that has interfaces.
struct PoolPlan {
  int numa_node = -1;
  uint32_t buffers = 0;
  uint32_t room = 0;  // bytes of one buffer: headroom and a whole frame

  // Its memory, with what DPDK keeps about each buffer.
  uint64_t bytes() const { return uint64_t{buffers} * (room + kOverhead); }

 private:
  static constexpr uint32_t kOverhead = 256;
};

// Enough buffers for every ring to be full and every worker to have its hands full at once.
std::vector<PoolPlan> PlanPools(const Plan& plan);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_PLAN_H_
