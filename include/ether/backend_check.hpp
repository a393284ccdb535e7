#pragma once

/// backend.hpp's contract as expressions that a complete backend makes well-formed.

#include <ether/row_reflections.hpp>

#include <type_traits>
#include <utility>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// Stand-ins for a backend's arguments; never called.
template <class B>
struct Probe {
  using S = typename B::Scalar;
  using P = typename B::Parameter;
  using I = typename B::Intermediate;
  static constexpr typename B::Context& ctx() noexcept;
  template <class T>
  static constexpr MatrixView<T> view() noexcept;
  static constexpr Reflection<P> h() noexcept;
  static constexpr RowReflections<P> each() noexcept;
};

// One alias per member: well-formed where the backend has it as backend.hpp says, for all element
// types that the library uses.
template <class B>
using scalar_t = typename B::Scalar;
template <class B>
using parameter_t = typename B::Parameter;
template <class B>
using intermediate_t = typename B::Intermediate;
template <class B>
using name_t = decltype(static_cast<const char*>(B::name));
template <class B>
using host_memory_t = std::bool_constant<B::host_memory>;
template <class B>
using context_t = typename B::Context;
template <class B>
using frame_t = decltype(std::declval<typename B::Context::Frame&>()
                             .template matrix<typename B::Intermediate>(Index{}, Index{})
                             .data);
template <class B>
using buffer_t =
    decltype(std::declval<const typename B::template Buffer<typename B::Parameter>&>().view().data);
template <class B, class A = Probe<B>>
using copy_in_t = decltype(B::copy_in(A::ctx(), A::template view<const typename A::P>(),
                                      A::template view<typename A::P>()));
template <class B, class A = Probe<B>>
using copy_out_t = decltype(B::copy_out(A::ctx(), A::template view<const typename A::P>(),
                                        A::template view<typename A::P>()));
template <class B, class A = Probe<B>>
using synchronize_t = decltype(B::synchronize(A::ctx()));
template <class B, class A = Probe<B>>
using gemm_t = decltype(B::gemm(A::ctx(), A::template view<const typename A::I>(),
                                A::template view<const typename A::S>(), true,
                                A::template view<typename A::I>(), true));
template <class B, class In, class Out, class Add, class A = Probe<B>>
using reflect_as = decltype(B::reflect(A::ctx(), A::h(), A::template view<const In>(),
                                       A::template view<Out>(), A::template view<const Add>()));
template <class B, class A = Probe<B>, class S = typename A::S, class I = typename A::I>
using reflect_t =
    std::void_t<reflect_as<B, S, S, S>, reflect_as<B, S, I, I>, reflect_as<B, I, S, S>,
                reflect_as<B, I, S, I>, reflect_as<B, I, I, S>, reflect_as<B, I, I, I>>;
template <class B, class In, class Out, class A = Probe<B>>
using transform_as = decltype(B::transform(A::ctx(), A::h(), A::h(), A::template view<const In>(),
                                           A::template view<Out>()));
template <class B, class A = Probe<B>, class S = typename A::S, class P = typename A::P>
using transform_t =
    std::void_t<transform_as<B, S, S>, transform_as<B, S, P>, transform_as<B, P, S>>;
template <class B, class T, class R, class Out, class A = Probe<B>>
using reflect_grad_as = decltype(B::reflect_grad(
    A::ctx(), A::h(), A::template view<const T>(), A::template view<const R>(),
    A::template view<Out>(), A::template view<typename A::P>()));
template <class B, class A = Probe<B>, class S = typename A::S, class I = typename A::I>
using reflect_grad_t = std::void_t<reflect_grad_as<B, S, I, S>, reflect_grad_as<B, I, S, I>>;
template <class B, class Y, class A = Probe<B>, class S = typename A::S>
using multiply_reflected_as = decltype(B::multiply_reflected(
    A::ctx(), A::h(), A::template view<const S>(), A::template view<const S>(), A::h(),
    A::template view<const S>(), A::template view<Y>()));
template <class B, class A = Probe<B>>
using multiply_reflected_t =
    std::void_t<multiply_reflected_as<B, typename A::S>, multiply_reflected_as<B, typename A::I>>;
template <class B, class A = Probe<B>, class S = typename A::S>
using output_grad_t = decltype(bool{
    B::output_grad(A::ctx(), A::h(), A::template view<const S>(), A::template view<const S>(),
                   A::h(), A::template view<const S>(), A::template view<typename A::I>(),
                   A::template view<typename A::P>())});
// The same of rows that have adapters of their own, for AdapterBank.
template <class B, class In, class Out, class Add, class A = Probe<B>>
using reflect_each_as =
    decltype(B::reflect(A::ctx(), A::each(), A::template view<const In>(), A::template view<Out>(),
                        A::template view<const Add>()));
template <class B, class A = Probe<B>, class S = typename A::S, class I = typename A::I>
using reflect_each_t = std::void_t<reflect_each_as<B, S, S, S>, reflect_each_as<B, S, I, I>,
                                   reflect_each_as<B, I, S, S>, reflect_each_as<B, I, S, I>>;
template <class B, class A = Probe<B>, class S = typename A::S>
using reflect_behind_bias_t = decltype(B::reflect_behind_bias(
    A::ctx(), A::each(), A::template view<S>(), A::template view<const S>()));
template <class B, class A = Probe<B>, class S = typename A::S>
using multiply_reflected_each_t = decltype(B::multiply_reflected(
    A::ctx(), A::each(), A::template view<const S>(), A::template view<const S>(), A::each(),
    A::template view<const S>(), A::template view<S>()));
template <class B>
using fused_with_t = typename B::FusedWith;

template <template <class...> class Member, class T, class = void>
struct has_member : std::false_type {};
template <template <class...> class Member, class T>
struct has_member<Member, T, std::void_t<Member<T>>> : std::true_type {};

/// Whether type T has a member in the sense of the aliases above.
template <template <class...> class Member, class T>
inline constexpr bool has = has_member<Member, T>::value;

/// Defines Trait<T>: whether class T, unless it is final, has a member called `member`, whatever it is.
/// Such a name is ambiguous in a class that derives from T and from another class that has it too.
#define ETHER_NAMES_MEMBER(Trait, member)                               \
  template <class T, bool Final = std::is_final_v<T>>                   \
  struct Trait : std::false_type {};                                    \
  template <class T>                                                    \
  struct Trait<T, false> {                                              \
    struct Other {                                                      \
      int member;                                                       \
    };                                                                  \
    struct Both : T, Other {};                                          \
    template <class U>                                                  \
    static std::false_type test(decltype(&U::member)*);                 \
    template <class U>                                                  \
    static std::true_type test(...);                                    \
    static constexpr bool value = decltype(test<Both>(nullptr))::value; \
  };

ETHER_NAMES_MEMBER(NamesMultiplyReflected, multiply_reflected)
ETHER_NAMES_MEMBER(NamesOutputGrad, output_grad)
ETHER_NAMES_MEMBER(NamesMultiplyTransposed, multiply_transposed)
ETHER_NAMES_MEMBER(NamesSliceRows, slice_rows)
ETHER_NAMES_MEMBER(NamesDense, dense)
#undef ETHER_NAMES_MEMBER

/// Whether B says whose gemm its fused operations agree with: its own, or void, nobody's.
template <class B>
constexpr bool says_fused_with() {
  if constexpr (has<fused_with_t, B>)
    return std::is_same_v<typename B::FusedWith, B> || std::is_void_v<typename B::FusedWith>;
  else
    return false;
}

/// Whether B has a fused operation that may be used.
template <template <class...> class Member, class B>
constexpr bool fuses() {
  if constexpr (has<fused_with_t, B> && has<Member, B>)
    return std::is_same_v<typename B::FusedWith, B>;
  else
    return false;
}

}  // namespace detail
ETHER_END_NAMESPACE
