#include "control/inspect.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kPlaces = 10000;  // of each of two tables

class InspectTest : public ::testing::Test {
 protected:
  InspectTest() { dataplane_.flows.resize(2); }

  Inspection Now() {
    return {.snapshot = snapshot_, .dataplane = &dataplane_, .workers = {{3, kPlaces}, {5, 64}}};
  }
  FlowFilter Filter(const std::string& service = "", const std::string& backend = "") {
    return Filter(FlowQuery{.service = service, .backend = backend});
  }
  FlowFilter Filter(const FlowQuery& query) { return FlowFilter::Make(*snapshot_, query).value(); }
  std::string Refusal(const FlowQuery& query) {
    return std::string(FlowFilter::Make(*snapshot_, query).status().message());
  }
  std::string Refusal(const std::string& service, const std::string& backend) {
    return Refusal(FlowQuery{.service = service, .backend = backend});
  }
  // All that the stream has to say.
  std::vector<api::FlowEntry> Stream(const FlowFilter& filter) {
    FlowStream stream(Now(), filter);
    std::vector<api::FlowEntry> entries;
    for (std::string text; stream.Next(&text); text.clear()) {
      EXPECT_LT(text.size(), 1u << 20) << "in pieces";
      for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
        const std::string json(line);
        EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &entries.emplace_back()).ok())
            << json;
      }
    }
    return entries;
  }

  FakeDataplane dataplane_;
  std::shared_ptr<const Snapshot> snapshot_ = testing::MakeSnapshot(
      {{.backends = {{"web-1", "10.0.0.11"}, {"web-2", "10.0.0.12"}}},
       {.name = "dns", .vips = {"198.51.100.53"}, .backends = {{"dns-1", "10.0.0.53"}}}});
};

FlowEntry Entry(BackendId backend, FlowState state, bool unconfirmed, uint64_t age_ms) {
  return {.backend = backend, .state = state, .unconfirmed = unconfirmed, .age_ms = age_ms};
}

TEST_F(InspectTest, CountsByBackendStateAndAge) {
  using enum FlowState;
  dataplane_.flows[0] = {{0, Entry(0, kTcpEstablished, false, 999)},
                         {4095, Entry(0, kTcpEstablished, true, 1000)},
                         {4096, Entry(0, kTcpEstablished, false, 9999)},
                         {kPlaces - 1, Entry(2, kUdp, false, 59999)}};
  dataplane_.flows[1] = {{63, Entry(0, kTcpClosing, false, 900000)},
                         {7, Entry(9, kTcpEstablished, false, 0)}};
  const api::FlowList list = CountFlows(Now(), Filter());
  EXPECT_EQ(list.flows(), 6u);
  EXPECT_EQ(list.of_removed_backends(), 1u);
  EXPECT_THAT(list.age_bounds_seconds(), ElementsAre(1, 10, 60, 300, 900));
  ASSERT_EQ(list.counts_size(), 3);
  EXPECT_EQ(list.counts(0).service(), "web");
  EXPECT_EQ(list.counts(0).backend(), "web-1");
  EXPECT_EQ(list.counts(0).state(), "established");
  EXPECT_EQ(list.counts(0).flows(), 3u);
  EXPECT_EQ(list.counts(0).unconfirmed(), 1u);
  EXPECT_THAT(list.counts(0).by_age(), ElementsAre(1, 2, 0, 0, 0, 0));
  EXPECT_EQ(list.counts(1).state(), "closing");
  EXPECT_THAT(list.counts(1).by_age(), ElementsAre(0, 0, 0, 0, 0, 1));
  EXPECT_EQ(list.counts(2).service(), "dns");
  EXPECT_EQ(list.counts(2).backend(), "dns-1");
  EXPECT_EQ(list.counts(2).state(), "udp");
  EXPECT_THAT(list.counts(2).by_age(), ElementsAre(0, 0, 1, 0, 0, 0));
}

// Against a plain walk, with whatever there can be.
TEST_F(InspectTest, CountsAndStreamAgreeWithAPlainModel) {
  std::mt19937 random(7);
  std::map<std::tuple<std::string, std::string, std::string>, uint64_t> model;
  uint64_t of_web_2 = 0;
  for (size_t w = 0; w < 2; ++w) {
    for (uint64_t place = 0; place < (w == 0 ? kPlaces : 64); ++place) {
      if (random() % 3 != 0) continue;
      const FlowEntry entry = Entry(random() % 4, static_cast<FlowState>(random() % kFlowStates),
                                    random() % 2 == 0, random() % 2000000);
      dataplane_.flows[w][place] = entry;
      const Backend* backend = snapshot_->FindBackend(entry.backend);
      ++model[{backend == nullptr   ? ""
               : entry.backend == 2 ? "dns"
                                    : "web",
               backend == nullptr ? "" : backend->name, std::string(FlowStateName(entry.state))}];
      of_web_2 += entry.backend == 1 ? 1 : 0;
    }
  }
  std::map<std::tuple<std::string, std::string, std::string>, uint64_t> counted, streamed;
  const api::FlowList list = CountFlows(Now(), Filter());
  for (const api::FlowCount& count : list.counts()) {
    counted[{count.service(), count.backend(), count.state()}] = count.flows();
    uint64_t of_all_ages = 0;
    for (const uint64_t n : count.by_age()) of_all_ages += n;
    EXPECT_EQ(of_all_ages, count.flows());
  }
  uint64_t removed = 0;
  for (const api::FlowEntry& entry : Stream(Filter())) {
    ++streamed[{entry.service(), entry.backend(), entry.state()}];
    removed += entry.backend().empty() ? 1 : 0;
  }
  EXPECT_EQ(streamed, model);
  EXPECT_EQ(list.of_removed_backends(), removed);
  std::erase_if(model, [](const auto& item) { return std::get<1>(item.first).empty(); });
  EXPECT_EQ(counted, model);

  EXPECT_EQ(CountFlows(Now(), Filter("", "web/web-2")).flows(), of_web_2);
  EXPECT_EQ(Stream(Filter("web", "web/web-2")).size(), of_web_2);
  for (const api::FlowEntry& entry : Stream(Filter("web"))) ASSERT_EQ(entry.service(), "web");
}

TEST_F(InspectTest, ByStateAndAge) {
  using enum FlowState;
  dataplane_.flows[0] = {{1, Entry(0, kTcpEstablished, false, 9999)},
                         {2, Entry(0, kTcpEstablished, false, 10000)},
                         {3, Entry(0, kTcpClosing, false, 10000)},
                         {4, Entry(1, kTcpEstablished, true, 59999)},
                         {5, Entry(2, kUdp, false, 60000)}};
  const auto count = [&](const FlowQuery& query) {
    EXPECT_EQ(CountFlows(Now(), Filter(query)).flows(), Stream(Filter(query)).size());
    return CountFlows(Now(), Filter(query)).flows();
  };
  EXPECT_EQ(count({}), 5u);
  EXPECT_EQ(count({.state = "established"}), 3u);
  EXPECT_EQ(count({.state = "udp"}), 1u);
  EXPECT_EQ(count({.older_than = "10s"}), 4u);
  EXPECT_EQ(count({.younger_than = "10s"}), 1u);
  EXPECT_EQ(count({.older_than = "10s", .younger_than = "1m"}), 3u);
  EXPECT_EQ(count({.service = "web", .state = "established", .older_than = "10s"}), 2u);
  EXPECT_EQ(count({.backend = "web/web-1", .state = "established", .older_than = "10s"}), 1u);
  EXPECT_EQ(count({.older_than = "2h"}), 0u);

  EXPECT_EQ(Refusal({.state = "establish"}),
            "there is no state \"establish\"; there are handshake, established, closing, udp; did "
            "you mean established?");
  for (const char* age : {"10", "-1s", "inf", "soon", "10s 1s"}) {
    EXPECT_THAT(Refusal({.older_than = age}), HasSubstr("is no age: ages are like")) << age;
    EXPECT_THAT(Refusal({.younger_than = age}), HasSubstr("is no age: ages are like")) << age;
  }
}

TEST_F(InspectTest, AnEntryTellsAllThatItKnows) {
  dataplane_.flows[1] = {{1, Entry(1, FlowState::kTcpHandshake, true, 1250)},
                         {2, Entry(1, FlowState::kTcpHandshake, true, 11000)}};
  const std::vector<api::FlowEntry> entries = Stream(Filter());
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].core(), 5u);
  EXPECT_EQ(entries[0].backend(), "web-2");
  EXPECT_EQ(entries[0].state(), "handshake");
  EXPECT_TRUE(entries[0].unconfirmed());
  EXPECT_EQ(entries[0].age_seconds(), 1.25);
  EXPECT_FALSE(entries[0].timed_out());
  EXPECT_TRUE(entries[1].timed_out()) << "a handshake has ten seconds";
}

TEST_F(InspectTest, AFilterNamesWhatThereIs) {
  EXPECT_EQ(Refusal("wb", ""), "there is no service \"wb\"; there are web, dns; did you mean web?");
  EXPECT_EQ(Refusal("", "wb/x"),
            "there is no service \"wb\"; there are web, dns; did you mean web?");
  EXPECT_EQ(Refusal("", "web/x"), "service web has no backend \"x\"; it has web-1, web-2");
  EXPECT_EQ(Refusal("", "web"), "\"web\" is not SERVICE/BACKEND");
  EXPECT_EQ(Refusal("dns", "web/web-1"), "backend web/web-1 is not of service dns");
}

TEST_F(InspectTest, LooksOneConnectionUp) {
  dataplane_.explain = [](const Snapshot&, const std::string& packet) {
    Explanation explanation;
    explanation.packet = packet;
    explanation.known = {{3, Entry(9, FlowState::kUdp, false, 61000), true},
                         {5, Entry(2, FlowState::kUdp, false, 250), false}};
    return explanation;
  };
  const api::FlowLookup lookup = LookUpFlow(Now(), "udp …").value();
  EXPECT_TRUE(lookup.found());
  ASSERT_EQ(lookup.entries_size(), 2);
  EXPECT_EQ(lookup.entries(0).backend(), "");
  EXPECT_TRUE(lookup.entries(0).timed_out());
  EXPECT_EQ(lookup.entries(1).core(), 5u);
  EXPECT_EQ(lookup.entries(1).service(), "dns");
  EXPECT_EQ(lookup.entries(1).age_seconds(), 0.25);
  EXPECT_EQ(LookUpFlow(Now(), "icmp 1 > 2").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace guideway
