#include "dataplane/io/plan.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"

namespace guideway {
namespace {

// «0000:3b:00.0» or «3b:00.0».
bool IsPciAddress(const std::string& name) {
  // From the right: one digit of the function, two of the device, two of the bus, four of the
  // domain, with these in between.
  static constexpr char kPattern[] = "xxxx:xx:xx.x";
  constexpr size_t kLong = sizeof(kPattern) - 1, kShort = kLong - 5;
  if (name.size() != kLong && name.size() != kShort) return false;
  const char* expected = kPattern + kLong - name.size();
  return std::equal(name.begin(), name.end(), expected, [](char c, char e) {
    return e == 'x' ? absl::ascii_isxdigit(static_cast<unsigned char>(c)) : c == e;
  });
}

uint16_t NumberOr(const std::optional<std::string>& text, uint16_t fallback) {
  const int number = text.has_value() ? std::atoi(text->c_str()) : 0;
  return number > 0 && number <= UINT16_MAX ? static_cast<uint16_t>(number) : fallback;
}

}  // namespace

DeviceName::DeviceName(const std::string& device) {
  arguments = absl::StrSplit(device, ',');
  name = arguments.front();
  arguments.erase(arguments.begin());
  is_pci = IsPciAddress(name);
  if (!is_pci) return;
  absl::AsciiStrToLower(&name);
  if (name.size() < 12) name.insert(0, "0000:");
}

std::optional<std::string> DeviceName::Argument(const std::string& key) const {
  for (const std::string& argument : arguments) {
    if (argument.rfind(key + "=", 0) == 0) return argument.substr(key.size() + 1);
  }
  return std::nullopt;
}

size_t DeviceName::CountArguments(const std::string& key) const {
  return std::count_if(arguments.begin(), arguments.end(),
                       [&](const std::string& a) { return a.rfind(key + "=", 0) == 0; });
}

DeviceFacts FactsByName(const DeviceName& device) {
  DeviceFacts facts;
  if (device.is_pci) {
    facts.can_spread = true;
    facts.max_rx_queues = facts.max_tx_queues = 64;
    return facts;
  }
  facts.is_virtual = true;
  if (device.IsDriver("net_tap") || device.IsDriver("net_tun")) {
    // The kernel sends to whichever queue wrote last.
    facts.rx_queues = DeviceFacts::RxQueues::kLikeTx;
    facts.max_rx_queues = facts.max_tx_queues = 16;
  } else if (device.IsDriver("net_af_packet")) {
    facts.rx_queues = DeviceFacts::RxQueues::kAll;
    facts.max_rx_queues = facts.max_tx_queues = NumberOr(device.Argument("qpairs"), 1);
  } else if (device.IsDriver("net_af_xdp")) {
    facts.rx_queues = DeviceFacts::RxQueues::kAll;
    facts.max_rx_queues = facts.max_tx_queues = NumberOr(device.Argument("queue_count"), 1);
  } else if (device.IsDriver("net_pcap")) {
    facts.rx_queues = DeviceFacts::RxQueues::kAll;
    facts.max_rx_queues = static_cast<uint16_t>(
        std::max<size_t>(1, device.CountArguments("rx_pcap") + device.CountArguments("rx_iface") +
                                device.CountArguments("rx_iface_in")));
    facts.max_tx_queues = static_cast<uint16_t>(
        std::max<size_t>(1, device.CountArguments("tx_pcap") + device.CountArguments("tx_iface")));
  } else if (device.IsDriver("net_ring")) {
    facts.max_rx_queues = facts.max_tx_queues = 16;
  } else if (device.IsDriver("net_null")) {
    facts.max_rx_queues = facts.max_tx_queues = 1024;
  }
  return facts;
}

std::vector<PoolPlan> PlanPools(const Plan& plan) {
  // What a queue may hold on to. net_af_xdp takes 2048 whatever it is asked for.
  constexpr uint32_t kPerQueue = 2048;
  // What a worker has in its hands, in its cache of free buffers, and in its ring of fragments.
  constexpr uint32_t kPerWorker = 2048;
  constexpr uint32_t kHeadroom = 128;     // DPDK's, before each frame
  constexpr uint32_t kAroundPacket = 26;  // Ethernet header, two VLAN tags, frame check sequence
  constexpr uint32_t kXdpHeadroom = 256;  // the kernel's, in a buffer of net_af_xdp
  constexpr uint32_t kSmallest = 2048, kStep = 1024;  // as NICs count the size of a buffer

  uint32_t tx_queues = 0;
  for (const InterfacePlan& interface : plan.interfaces) tx_queues += interface.tx_queues;

  uint32_t room = 0;
  std::map<int, PoolPlan> pools;
  for (const InterfacePlan& interface : plan.interfaces) {
    PoolPlan& pool = pools[interface.numa_node];
    pool.numa_node = interface.numa_node;
    pool.buffers += interface.rx_queues * kPerQueue;
    const uint32_t frame = interface.mtu + kAroundPacket + kXdpHeadroom;
    const uint32_t rounded = std::max(kSmallest, (frame + kStep - 1) / kStep * kStep);
    room = std::max(room, kHeadroom + rounded);
  }
  std::vector<PoolPlan> result;
  for (auto& [node, pool] : pools) {
    // A packet may leave by any interface, and a worker copies one of any length.
    pool.room = room;
    pool.buffers += tx_queues * kPerQueue + static_cast<uint32_t>(plan.workers.size()) * kPerWorker;
    result.push_back(pool);
  }
  return result;
}

}  // namespace guideway
