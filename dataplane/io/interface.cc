#include "dataplane/io/interface.h"

#include <glog/logging.h>
#include <net/if.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

constexpr uint16_t kRingSize = 1024;

// Microsoft's key, well spread and with published test vectors; begun again for devices that want
// more than 40 bytes.
constexpr std::array<uint8_t, 52> kRssKey = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43,
    0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb,
    0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01,
    0xfa, 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d};

// Addresses, and ports where there are any. Fragments by addresses alone.
constexpr uint64_t kRssFields = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;

bool CanSpread(const rte_eth_dev_info& info) {
  return info.reta_size > 0 && info.hash_key_size >= 40 && info.hash_key_size <= kRssKey.size() &&
         (info.flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_TCP) != 0;
}

MacAddress FromDpdk(const rte_ether_addr& address) {
  MacAddress mac;
  std::memcpy(mac.bytes.data(), address.addr_bytes, mac.bytes.size());
  return mac;
}

rte_ether_addr ToDpdk(const MacAddress& mac) {
  rte_ether_addr address;
  std::memcpy(address.addr_bytes, mac.bytes.data(), mac.bytes.size());
  return address;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Interface>> Interface::Attach(Eal& eal, const std::string& name,
                                                             const std::string& device) {
  const DeviceName device_name(device);
  uint16_t port;
  // A PCI device is there since EAL's start, and so is one that was made in this process.
  if (rte_eth_dev_get_port_by_name(device_name.name.c_str(), &port) != 0) {
    const int error = rte_dev_probe(device.c_str());
    if (error != 0 || rte_eth_dev_get_port_by_name(device_name.name.c_str(), &port) != 0) {
      const std::string why = error != 0 ? rte_strerror(-error) : "it made no network port";
      return absl::FailedPreconditionError(absl::StrCat("interface «", name, "»: device «", device,
                                                        "» cannot be opened: ", why,
                                                        eal.TakeComplaints()));
    }
  }
  eal.TakeComplaints();  // they were of no consequence
  return std::unique_ptr<Interface>(new Interface(eal, name, device, port));
}

Interface::Interface(Eal& eal, const std::string& name, const std::string& device, uint16_t port)
    : eal_(eal),
      name_(name),
      device_(device),
      device_name_(device),
      port_(port),
      facts_(FactsByName(device_name_)) {
  rte_eth_dev_info info;
  CHECK_EQ(rte_eth_dev_info_get(port_, &info), 0) << device;
  facts_.max_rx_queues = info.max_rx_queues;
  facts_.max_tx_queues = info.max_tx_queues;
  facts_.can_spread = !facts_.is_virtual && CanSpread(info);
  facts_.numa_node = facts_.is_virtual ? -1 : rte_eth_dev_socket_id(port_);
}

Interface::~Interface() {
  Stop();
  rte_eth_dev_info info;
  const int error = rte_eth_dev_info_get(port_, &info);
  rte_eth_dev_close(port_);
  if (error == 0 && info.device != nullptr && facts_.is_virtual) rte_dev_remove(info.device);
}

absl::Status Interface::Start(const InterfacePlan& plan, rte_mempool* pool, bool only_pool) {
  rte_eth_dev_info info;
  if (int error = rte_eth_dev_info_get(port_, &info); error != 0) return Error("no facts", error);
  if (absl::Status s = Configure(plan, info, only_pool); !s.ok()) return s;
  if (absl::Status s = SetUpQueues(plan, pool); !s.ok()) return s;
  SetMac(plan);
  if (device_name_.IsDriver("net_tap")) rte_eth_dev_set_mtu(port_, plan.mtu);  // of its kernel end
  if (int error = rte_eth_dev_start(port_); error != 0) return Error("does not start", error);
  started_ = true;
  mtu_ = plan.mtu;
  return plan.spread ? SetRedirection(plan, info) : absl::OkStatus();
}

absl::Status Interface::Configure(const InterfacePlan& plan, const rte_eth_dev_info& info,
                                  bool only_pool) {
  rte_eth_conf conf = {};
  conf.rxmode.mtu = plan.mtu;
  std::array<uint8_t, kRssKey.size()> key = kRssKey;
  if (plan.spread) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_key = key.data();
    conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
    conf.rx_adv_conf.rss_conf.rss_hf = kRssFields & info.flow_type_rss_offloads;
  }
  if (!facts_.is_virtual) {
    conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM & info.rx_offload_capa;
    if (only_pool) conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE & info.tx_offload_capa;
  }
  const int error = rte_eth_dev_configure(port_, plan.rx_queues, plan.tx_queues, &conf);
  if (error == 0) return absl::OkStatus();
  // How ethdev itself tells the two limits apart.
  const uint32_t around = info.max_mtu != UINT16_MAX && info.max_rx_pktlen > info.max_mtu
                              ? info.max_rx_pktlen - info.max_mtu
                              : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
  const uint32_t max_mtu = std::min<uint32_t>(info.max_mtu, info.max_rx_pktlen - around);
  if (plan.mtu > max_mtu) {
    return absl::FailedPreconditionError(absl::StrCat("interface «", name_, "» (", device_,
                                                      "): `mtu: ", plan.mtu, "` is more than the ",
                                                      max_mtu, " that this device can do"));
  }
  return Error(absl::StrCat("takes no ", plan.rx_queues, " receive and ", plan.tx_queues,
                            " transmit queues"),
               error);
}

absl::Status Interface::SetUpQueues(const InterfacePlan& plan, rte_mempool* pool) {
  uint16_t rx_size = kRingSize, tx_size = kRingSize;
  if (int error = rte_eth_dev_adjust_nb_rx_tx_desc(port_, &rx_size, &tx_size); error != 0) {
    return Error("has no rings", error);
  }
  const unsigned node = rte_eth_dev_socket_id(port_);
  for (uint16_t queue = 0; queue < plan.rx_queues; ++queue) {
    const int error = rte_eth_rx_queue_setup(port_, queue, rx_size, node, nullptr, pool);
    if (error != 0) return Error(absl::StrCat("receive queue ", queue), error);
  }
  for (uint16_t queue = 0; queue < plan.tx_queues; ++queue) {
    const int error = rte_eth_tx_queue_setup(port_, queue, tx_size, node, nullptr);
    if (error != 0) return Error(absl::StrCat("transmit queue ", queue), error);
  }
  return absl::OkStatus();
}

absl::Status Interface::SetRedirection(const InterfacePlan& plan, const rte_eth_dev_info& info) {
  std::vector<rte_eth_rss_reta_entry64> table((info.reta_size + RTE_ETH_RETA_GROUP_SIZE - 1) /
                                              RTE_ETH_RETA_GROUP_SIZE);
  for (uint16_t i = 0; i < info.reta_size; ++i) {
    rte_eth_rss_reta_entry64& group = table[i / RTE_ETH_RETA_GROUP_SIZE];
    group.mask |= uint64_t{1} << (i % RTE_ETH_RETA_GROUP_SIZE);
    group.reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % plan.rx_queues;
  }
  const int error = rte_eth_dev_rss_reta_update(port_, table.data(), info.reta_size);
  return error == 0 ? absl::OkStatus() : Error("takes no redirection table; use one worker", error);
}

void Interface::SetMac(const InterfacePlan& plan) {
  rte_ether_addr own = {};
  rte_eth_macaddr_get(port_, &own);
  mac_ = FromDpdk(own);
  if (device_name_.IsDriver("net_tap")) {
    mac_.bytes[5] ^= 1;  // the kernel end keeps the device's
    mac_ = plan.mac.value_or(mac_);
    return;
  }
  if (!plan.mac.has_value() || *plan.mac == mac_) return;
  mac_ = *plan.mac;
  rte_ether_addr wanted = ToDpdk(mac_);
  if (rte_eth_dev_default_mac_addr_set(port_, &wanted) == 0) return;
  if (const int error = rte_eth_promiscuous_enable(port_); error != 0 && error != -ENOTSUP) {
    LOG(WARNING) << "interface «" << name_ << "»: the device " << device_
                 << " takes neither another MAC address nor promiscuous mode: it will receive what "
                 << "is for " << FromDpdk(own).ToString() << " only";
  }
}

void Interface::Stop() {
  if (!started_) return;
  last_ = status();
  last_.link_up = false;
  started_ = false;
  rte_eth_dev_stop(port_);
}

bool Interface::IsLinkUp() const {
  if (device_name_.IsDriver("net_tap")) {
    // A kernel end that was moved to another namespace can not be asked from here.
    const auto iface = device_name_.Argument("iface");
    if (iface.has_value() && if_nametoindex(iface->c_str()) == 0) return true;
  }
  rte_eth_link link = {};
  return rte_eth_link_get_nowait(port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

InterfaceStatus Interface::status() const {
  if (!started_) return last_;
  InterfaceStatus status;
  status.name = name_;
  status.device = device_;
  status.mac = mac_;
  status.mtu = mtu_;
  status.link_up = IsLinkUp();
  rte_eth_stats stats = {};
  if (rte_eth_stats_get(port_, &stats) == 0) {
    status.received_packets = stats.ipackets;
    status.sent_packets = stats.opackets;
    status.missed_packets = stats.imissed + stats.rx_nombuf;
  }
  return status;
}

absl::Status Interface::Error(const std::string& what, int error) const {
  return absl::FailedPreconditionError(absl::StrCat("interface «", name_, "» (", device_,
                                                    "): ", what, ": ", rte_strerror(-error),
                                                    eal_.TakeComplaints()));
}

}  // namespace guideway
