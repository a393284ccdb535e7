#pragma once

/// The banks of all layers of a model: one slot for each adapter, found by its name.

#include <ether/adapter_bank.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

ETHER_BEGIN_NAMESPACE

namespace detail {

/// A module's adapter from an AdapterFile, or from an AdapterDirectory, which has floats only.
template <class P, class Source>
auto adapter_from(const Source& source, const std::string& module, Index out, Index in, int)
    -> decltype(source.template adapter<P>(module, out, in)) {
  return source.template adapter<P>(module, out, in);
}
template <class P, class Source>
auto adapter_from(const Source& source, const std::string& module, Index out, Index in, long)
    -> decltype(source.adapter(module, out, in)) {
  return source.adapter(module, out, in);
}

}  // namespace detail

/// A linear layer of a model, by the name that adapters know it by.
struct BankModule {
  std::string name;  ///< such as model.layers.0.self_attn.q_proj
  Index out_features, in_features;
};

/// Keeps up to `capacity` adapters of a model resident. Loading another one takes the place of the one that was
/// used longest ago, never of one that is pinned or that a request holds:
///
///     auto hold = bank.find(name);
///     if (!hold) hold = bank.load(ctx, name, ether::AdapterFile(directory));   // or an AdapterDirectory
///     ... layer.forward(ctx, x, y, bank["model.layers.0.self_attn.q_proj"], ids) with hold.id() among the ids ...
///
/// Thread-safe: requests may compute while adapters are loaded, each thread with a Context of its own. A load
/// fails where every slot is held or pinned. It does not wait for one, since the thread that loads may be the
/// one that must release.
template <class Backend, class Unit = typename Backend::Parameter>
class ModelBank {
 public:
  using Bank = AdapterBank<Backend, Unit>;
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  /// A request's hold of an adapter: until it ends, the slot keeps what it has. The bank must outlive it. On a
  /// GPU it must last until the work that uses the slot is done.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : bank_(std::exchange(other.bank_, nullptr)), slot_(other.slot_) {}
    Hold& operator=(Hold&& other) noexcept {
      Hold taken(std::move(other));  // releases what this one had
      std::swap(bank_, taken.bank_);
      std::swap(slot_, taken.slot_);
      return *this;
    }
    ~Hold() {
      if (bank_ != nullptr) bank_->release(slot_);
    }
    /// Whether there is an adapter; without one the id is -1, the frozen model.
    explicit operator bool() const { return bank_ != nullptr; }
    std::int32_t id() const { return bank_ == nullptr ? -1 : static_cast<std::int32_t>(slot_); }

   private:
    friend ModelBank;
    Hold(ModelBank* bank, Index slot) : bank_(bank), slot_(slot) {}
    ModelBank* bank_ = nullptr;
    Index slot_ = 0;
  };

  /// Allocates all memory that the banks will need. Throws parameter_error as AdapterBank does, and for a
  /// module that is there twice.
  ModelBank(Context& ctx, const AdapterConfig& limits, const std::vector<BankModule>& modules,
            Index capacity)
      : slots_(static_cast<std::size_t>(Bank::checked_capacity(capacity))) {
    banks_.reserve(modules.size());
    for (const BankModule& module : modules) {
      if (!places_.emplace(module.name, banks_.size()).second)
        detail::fail<parameter_error>("the model has two modules '", module.name, "'");
      banks_.emplace_back(ctx, limits, module.out_features, module.in_features, capacity);
    }
  }

  Index capacity() const { return static_cast<Index>(slots_.size()); }
  /// The bank of a module. Throws parameter_error where there is none.
  const Bank& operator[](const std::string& module) const {
    const auto found = places_.find(module);
    if (found == places_.end())
      detail::fail<parameter_error>("the bank has no module '", module, "'");
    return banks_[found->second];
  }

  /// The adapter of this name, if it is resident; it counts as used now.
  Hold find(const std::string& name) {
    const std::lock_guard lock(table_);
    const auto found = names_.find(name);
    return found == names_.end() ? Hold() : hold(found->second);
  }

  /// The same, put into a slot from `source` where it is not resident. `source` has modules(), and
  /// adapter(module, out, in) or adapter<Parameter>(module, out, in), as AdapterDirectory and AdapterFile
  /// have, and is read in any case: ask find first. A module of the model that it does not adapt is frozen.
  /// Nothing is evicted when it throws, unless a device fails:
  /// parameter_error for a module that the bank has not, what AdapterBank::set throws, and where every slot is
  /// held or pinned.
  template <class Source>
  Hold load(Context& ctx, const std::string& name, const Source& source) {
    return place(ctx, name, source, /*anew=*/false);
  }

  /// The same in place of a resident adapter of this name: requests that hold that one keep it. Pinned, it stays
  /// pinned.
  template <class Source>
  Hold replace(Context& ctx, const std::string& name, const Source& source) {
    return place(ctx, name, source, /*anew=*/true);
  }

  /// A pinned adapter is not evicted. Throw parameter_error for one that is not resident.
  void pin(const std::string& name) { set_pinned(name, true); }
  void unpin(const std::string& name) { set_pinned(name, false); }

  /// Forgets an adapter, if it is resident: its slot is free when the last request releases it.
  void erase(const std::string& name) {
    const std::lock_guard lock(table_);
    const auto found = names_.find(name);
    if (found == names_.end()) return;
    forget(found->second);
    names_.erase(found);
  }

  /// The resident adapters, in alphabetical order.
  std::vector<std::string> names() const {
    const std::lock_guard lock(table_);
    std::vector<std::string> all;
    for (const auto& [name, slot] : names_) all.push_back(name);
    return all;
  }

 private:
  struct Slot {
    std::string name;  // empty: free
    Index holds = 0;
    bool pinned = false;
    std::uint64_t used = 0;  // by the clock below
  };

  template <class Source>
  Hold place(Context& ctx, const std::string& name, const Source& source, bool anew) {
    if (name.empty()) detail::fail<parameter_error>("the adapter's name is empty");
    const auto adapters = read(name, source);       // from the disk, perhaps: while others go on
    std::map<std::string, Index> entry{{name, 0}};  // all that is to be allocated
    std::string copy = name;
    const std::lock_guard one_at_a_time(loads_);
    Hold to;
    bool pinned = false;
    {
      const std::lock_guard lock(table_);
      const auto found = names_.find(name);
      if (found != names_.end() && !anew) return hold(found->second);
      Index slot = -1;
      if (found != names_.end()) {
        pinned = at(found->second).pinned;
        if (at(found->second).holds == 0) slot = found->second;  // its own
      }
      if (slot < 0) slot = free_slot(name);
      if (!at(slot).name.empty()) names_.erase(at(slot).name);
      forget(slot);
      to = hold(slot);
    }
    for (std::size_t i = 0; i < banks_.size(); ++i)
      if (adapters[i])
        banks_[i].set(ctx, to.slot_, *adapters[i]);
      else
        banks_[i].clear(ctx, to.slot_);
    Backend::synchronize(ctx);
    const std::lock_guard lock(table_);
    const auto found = names_.find(name);
    if (found != names_.end()) {
      forget(found->second);
      found->second = to.slot_;
    } else {
      entry.begin()->second = to.slot_;
      names_.insert(entry.extract(entry.begin()));
    }
    at(to.slot_).name.swap(copy);
    at(to.slot_).pinned = pinned;
    return to;
  }

  /// The adapter of each module, checked.
  template <class Source>
  std::vector<std::optional<Adapter<Parameter>>> read(const std::string& name,
                                                      const Source& source) const {
    std::vector<std::optional<Adapter<Parameter>>> adapters(banks_.size());
    for (const std::string& module : source.modules()) {
      const auto found = places_.find(module);
      if (found == places_.end())
        detail::fail<parameter_error>("adapter '", name, "' adapts module '", module,
                                      "', which is not in the bank; make the bank with it");
      const Bank& bank = banks_[found->second];
      auto& adapter = adapters[found->second];
      adapter = detail::adapter_from<Parameter>(source, module, bank.out_features(),
                                                bank.in_features(), 0);
      bank.check_set(*adapter).require();
    }
    return adapters;
  }

  // With the table locked:

  Slot& at(Index slot) { return slots_[static_cast<std::size_t>(slot)]; }
  Hold hold(Index slot) {
    ++at(slot).holds;
    at(slot).used = ++clock_;
    return Hold(this, slot);
  }
  void forget(Index slot) {
    at(slot).name.clear();
    at(slot).pinned = false;
  }
  /// A slot that nobody holds: an empty one, or the one used longest ago.
  Index free_slot(const std::string& name) const {
    Index best = -1, held = 0, pinned = 0;
    const auto age = [&](Index s) {
      const Slot& slot = slots_[static_cast<std::size_t>(s)];
      return std::pair(!slot.name.empty(), slot.used);
    };
    for (Index s = 0; s < capacity(); ++s) {
      const Slot& slot = slots_[static_cast<std::size_t>(s)];
      held += slot.holds != 0;
      pinned += slot.holds == 0 && slot.pinned;
      if (slot.holds == 0 && !slot.pinned && (best < 0 || age(s) < age(best))) best = s;
    }
    if (best < 0)
      detail::fail<parameter_error>(
          "adapter '", name, "' finds no slot: of its ", capacity(), " slots requests hold ", held,
          " and ", pinned,
          " more are pinned; let a request end, unpin an adapter, or make a larger "
          "bank");
    return best;
  }

  void release(Index slot) {
    const std::lock_guard lock(table_);
    --at(slot).holds;
  }
  void set_pinned(const std::string& name, bool pinned) {
    const std::lock_guard lock(table_);
    const auto found = names_.find(name);
    if (found == names_.end())
      detail::fail<parameter_error>("adapter '", name, "' is not resident; load it first");
    at(found->second).pinned = pinned;
  }

  std::vector<Bank> banks_;
  std::map<std::string, std::size_t> places_;  // of modules, in banks_
  mutable std::mutex table_;                   // guards what follows; held for moments
  std::mutex loads_;                           // one slot is written at a time
  std::vector<Slot> slots_;
  std::map<std::string, Index> names_;
  std::uint64_t clock_ = 0;
};

ETHER_END_NAMESPACE
