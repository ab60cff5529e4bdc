# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of the service as data (wire 5.1, 5.2), and which fault a refusal of the repository becomes."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from simulator.cim.model import CimError
from simulator.cim.xmltext import attribute, text

from . import names

ACTIONS: Final[Mapping[str, str]] = MappingProxyType({
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer/fault",
    "s": "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
})
"""The action of a fault by the prefix of its subcode (wire 5.1)."""


@dataclass(frozen=True)
class FaultKind:
    """One row of wire 5.2. ``code`` None: the fault has no WSManFault at all."""

    code: int | None
    sender: bool
    subcode: str
    """With the prefix by which Windows writes it: ``w:InvalidSelectors``."""
    english: str
    japanese: str
    detail: str | None = None
    """Last part of ``w:FaultDetail``."""


@dataclass(frozen=True)
class ProviderFault:
    """What a provider adds below ``f:Message`` (wire 5.1)."""

    provider: str
    path: str = "%systemroot%\\system32\\wsmwmipl.dll"
    code: int | None = None
    """Of the inner WSManFault."""
    message: str = ""
    status: int | None = None
    """``StatusCode`` of the ``__ExtendedStatus``: WBEM_E_* or another HRESULT, unsigned."""
    operation: str = ""


@dataclass(frozen=True)
class WmiError:
    """An ``MSFT_WmiError`` in the detail (wire 5.1); ``cim_status`` as DSP0223 numbers it."""

    cim_status: int
    error_code: int
    message: str
    namespace: str | None = None
    """CIM namespace whose URI the element gets; None: the cim-schema/2 one."""


class SoapFault(Exception):
    """A request ends in a fault."""

    def __init__(self, name: str, message: str | None = None, *, provider: ProviderFault | None = None, wmi_error: WmiError | None = None,
                 not_understood: str | None = None, code: int | None = None) -> None:
        super().__init__(message or FAULTS[name].english)
        self.name = name
        self.kind = FAULTS[name] if code is None else replace(FAULTS[name], code=code)
        self.message = message
        self.provider = provider
        self.wmi_error = wmi_error
        self.not_understood = not_understood
        """``{namespace}name`` of a header that was not understood."""


FAULTS: Final[Mapping[str, FaultKind]] = MappingProxyType({
    "access_denied": FaultKind(5, True, "w:AccessDenied", "Access is denied. ", "アクセスが拒否されました。 "),
    "invalid_parameter": FaultKind(87, True, "w:InvalidParameter", "The parameter is incorrect. ", "パラメーターが間違っています。 "),
    "not_supported": FaultKind(50, False, "w:InternalError", "The request is not supported. ", "この要求はサポートされていません。 "),
    "operation_aborted": FaultKind(995, False, "w:InternalError",
                                   "The I/O operation has been aborted because of either a thread exit or an application request. ",
                                   "スレッドの終了またはアプリケーションの要求によって、I/O 処理は中止されました。 "),
    "internal_error": FaultKind(1359, False, "w:InternalError", "An internal error occurred. ", "内部エラーが発生しました。 "),
    "resource_not_found": FaultKind(2150858752, True, "a:DestinationUnreachable",
                                    "The WS-Management service cannot process the request. The service cannot find the resource "
                                    "identified by the resource URI and selectors. ",
                                    "リソース URI およびセレクターによって指定されたリソースが見つかりません。 ", "InvalidResourceURI"),
    "invalid_action": FaultKind(2150858753, True, "a:ActionNotSupported",
                                "The WS-Management service cannot process the request because the action URI is not valid. ",
                                "アクション URI が無効です。 "),
    "action_not_supported": FaultKind(2150858771, True, "a:ActionNotSupported",
                                      "The action is not supported by the service. ", "この操作はサービスでサポートされていません。 "),
    "cannot_process_filter": FaultKind(2150858778, True, "n:CannotProcessFilter",
                                       "The WS-Management service cannot process the request. The filter dialect or the filter "
                                       "expression cannot be processed. ",
                                       "フィルター式を処理できません。 "),
    "invalid_enumeration_context": FaultKind(2150858779, False, "n:InvalidEnumerationContext",
                                             "The enumeration context is not valid. ", "列挙コンテキストが無効です。 "),
    "enumerate_timed_out": FaultKind(2150858780, False, "n:TimedOut", "The enumeration timed out. ", "列挙がタイムアウトしました。 "),
    "encoding_limit": FaultKind(2150858823, True, "w:EncodingLimit",
                                "The maximum envelope size of the request is too small. ", "最大エンベロープ サイズが小さすぎます。 ",
                                "MinimumEnvelopeLimit"),
    "envelope_too_large": FaultKind(2150858790, True, "w:EncodingLimit",
                                    "The response that the service computed exceeds the maximum envelope size of the request. ",
                                    "応答が最大エンベロープ サイズを超えています。 ", "MaxEnvelopeSizeExceeded"),
    "timed_out": FaultKind(2150858793, False, "w:TimedOut",
                           "The operation could not be completed within the time specified in OperationTimeout. ",
                           "OperationTimeout に指定された時間内に操作を完了できませんでした。 "),
    "concurrency": FaultKind(2150858802, True, "w:Concurrency", "The resource is busy. ", "リソースは使用中です。 "),
    "invalid_resource_uri": FaultKind(2150858811, True, "a:DestinationUnreachable",
                                      "The resource URI is not valid. ", "リソース URI が無効です。 ", "InvalidResourceURI"),
    "invalid_selectors": FaultKind(2150858813, True, "w:InvalidSelectors",
                                   "The selectors are not valid for the resource. ", "セレクターが無効です。 "),
    "quota_limit": FaultKind(2150858815, True, "w:QuotaLimit", "The service is busy: a quota was exceeded. ", "クォータを超えました。 "),
    "schema_validation": FaultKind(2150858817, True, "w:SchemaValidationError",
                                   "The SOAP body does not conform to the schema of the resource. ",
                                   "SOAP 本文がスキーマに準拠していません。 "),
    "duplicate_selectors": FaultKind(2150858813, True, "w:InvalidSelectors",
                                     "A selector is given more than once. ", "セレクターが重複しています。 ", "DuplicateSelectors"),
    "insufficient_selectors": FaultKind(2150858842, True, "w:InvalidSelectors",
                                        "The request does not have all the selectors that the resource needs. ",
                                        "必要なセレクターが不足しています。 ", "InsufficientSelectors"),
    "unexpected_selectors": FaultKind(2150858843, True, "w:InvalidSelectors",
                                      "The request has selectors that the resource does not know. ",
                                      "要求に予期しないセレクターが含まれています。 ", "UnexpectedSelectors"),
    "filter_needs_star": FaultKind(2150859003, True, "a:DestinationUnreachable",
                                   "The resource URI must not contain keys, and the class name must be '*' when a WQL filter is used. ",
                                   "WQL フィルターを使用する場合、クラス名は '*' でなければなりません。 ", "InvalidResourceURI"),
    "polymorphism": FaultKind(2150859063, True, "w:UnsupportedFeature",
                              "The polymorphism mode is not supported. ", "ポリモーフィズム モードはサポートされていません。 "),
    "quota_shells": FaultKind(2150859173, True, "w:QuotaLimit",
                              "The maximum number of concurrent shells for this user has been reached. ",
                              "このユーザーの同時シェルの最大数に達しました。 "),
    "quota_operations": FaultKind(2150859174, True, "w:QuotaLimit",
                                  "The maximum number of concurrent operations for this user has been reached. ",
                                  "このユーザーの同時操作の最大数に達しました。 "),
    "quota_operations_enumeration": FaultKind(2150859174, False, "w:InternalError",
                                              "The maximum number of concurrent operations for this user has been reached. ",
                                              "このユーザーの同時操作の最大数に達しました。 "),
    "quota_user": FaultKind(2150859175, True, "w:QuotaLimit",
                            "This user is allowed a maximum number of requests in a period of time, which was exceeded. ",
                            "このユーザーの要求数の上限を超えました。 "),
    "quota_system": FaultKind(2150859176, True, "w:QuotaLimit",
                              "The load of the system exceeds its quota. ", "システムの負荷がクォータを超えました。 "),
    "quota_shell_users": FaultKind(2150859179, True, "w:QuotaLimit",
                                   "The maximum number of users that run shells at one time has been reached. ",
                                   "同時シェル ユーザーの最大数に達しました。 "),
    "command_running": FaultKind(2150859241, False, "w:InternalError",
                                 "The shell runs another command. ", "シェルは別のコマンドを実行中です。 "),
    "shells_not_allowed": FaultKind(2150859180, False, "w:InternalError",
                                    "Access to remote shells is not allowed on this computer. ",
                                    "リモート シェルへのアクセスは許可されていません。 "),
    "pull_parameters": FaultKind(2150859181, True, "w:InvalidParameter",
                                 "The parameters of the pull differ from those of the enumeration. ",
                                 "Pull のパラメーターが Enumerate と異なります。 "),
    "idle_timeout_out_of_bounds": FaultKind(2150859250, True, "w:InvalidParameter",
                                            "The idle time-out of the shell is out of bounds. ",
                                            "シェルのアイドル タイムアウトが範囲外です。 "),
    "missing_header": FaultKind(None, True, "a:MessageInformationHeaderRequired",
                                "A required message information header is missing. ", "必要なヘッダーがありません。 "),
    "invalid_header": FaultKind(None, True, "a:InvalidMessageInformationHeader",
                                "A message information header is not valid. ", "ヘッダーが無効です。 "),
    "unsupported_addressing": FaultKind(2150858870, True, "w:UnsupportedFeature",
                                        "Only anonymous replies are supported. ", "匿名の応答のみがサポートされています。 ",
                                        "AddressingMode"),
    "unsupported_locale": FaultKind(2150858818, True, "w:UnsupportedFeature",
                                    "The locale header must not have mustUnderstand. ", "ロケールはサポートされていません。 ", "Locale"),
    "must_understand": FaultKind(None, True, "", "A header that must be understood was not understood. ",
                                 "理解できないヘッダーがあります。 "),
})
"""By name. Codes and subcodes are those of wire 5.2; the sentences are our own and stand for whatever text a real host has."""

CIM_FAULTS: Final[Mapping[str, str]] = MappingProxyType({
    "access_denied": "access_denied",
    "invalid_namespace": "cannot_process_filter",
    "invalid_class": "resource_not_found",
    "not_found": "resource_not_found",
    "unexpected_selectors": "unexpected_selectors",
    "insufficient_selectors": "insufficient_selectors",
    "invalid_selectors": "invalid_selectors",
    "invalid_query": "cannot_process_filter",
    "cannot_process_filter": "cannot_process_filter",
    "schema_validation": "schema_validation",
    "method_not_found": "invalid_action",
    "invalid_parameter": "invalid_parameter",
    "not_supported": "action_not_supported",
    "failed": "internal_error",
})
"""The fault of each kind of :class:`CimError`."""

_WMI_STATUS_INVALID_NAMESPACE = 3
_WMI_STATUS_SERVER_LIMITS = 27


def from_cim_error(error: CimError, namespace: str, *, own_namespace: bool = False) -> SoapFault:
    """The fault that a refusal of the repository becomes.

    A provider's own code (``hresult``) travels as ``StatusCode`` of an ``__ExtendedStatus`` inside InternalError 1359, except that
    access denied keeps code 5 (wire 5.2). An unknown namespace is an ``MSFT_WmiError`` with CIMStatusCode 3 and error_Code
    2150858778, as virt-who met it. ``own_namespace`` puts that element into the namespace that was asked instead of cim-schema/2
    (both occur).
    """
    name = CIM_FAULTS[error.kind]
    if error.kind == "invalid_namespace":
        wmi_error = WmiError(_WMI_STATUS_INVALID_NAMESPACE, 2150858778, error.message, namespace if own_namespace else None)
        return SoapFault(name, error.message, wmi_error=wmi_error)
    if error.hresult is not None:
        if error.kind not in ("access_denied", "not_found", "invalid_class", "schema_validation"):
            name = "internal_error"
        status = error.hresult & 0xFFFFFFFF
        provider = ProviderFault(error.provider or "WMI", code=status, message=error.message, status=status)
        return SoapFault(name, error.message, provider=provider)
    return SoapFault(name, error.message)


def operations_quota(namespace: str | None) -> SoapFault:
    """The per-user operations quota met by a CIM operation: an ``MSFT_WmiError`` with CIMStatusCode 27 (wire 5.2)."""
    kind = FAULTS["quota_operations_enumeration"]
    return SoapFault("quota_operations_enumeration",
                     wmi_error=WmiError(_WMI_STATUS_SERVER_LIMITS, kind.code or 0, kind.english, namespace))


def localised(fault: SoapFault, locale: str) -> str:
    """The sentence of a fault in the language of ``locale``; a message of its own stays as it is in English only."""
    if locale.lower().startswith("ja"):
        return fault.kind.japanese
    return fault.message or fault.kind.english


def format_fault(fault: SoapFault, locale: str, machine: str) -> str:
    """The ``s:Fault`` element; prefixes s, w, a, n are declared by the envelope."""
    sentence = localised(fault, locale)
    kind = fault.kind
    if fault.name == "must_understand":
        code = "<s:Value>s:MustUnderstand</s:Value>"
    else:
        side = "s:Sender" if kind.sender else "s:Receiver"
        code = f"<s:Value>{side}</s:Value><s:Subcode><s:Value>{kind.subcode}</s:Value></s:Subcode>"
    reason = f"<s:Reason><s:Text xml:lang={attribute(locale)}>{text(sentence)}</s:Text></s:Reason>"
    return f"<s:Fault><s:Code>{code}</s:Code>{reason}{_detail(fault, sentence, machine)}</s:Fault>"


def _detail(fault: SoapFault, sentence: str, machine: str) -> str:
    """``s:Detail``; nothing for a fault that has none."""
    parts = []
    if fault.kind.detail:
        parts.append(f"<w:FaultDetail>{names.FAULT_DETAIL}{fault.kind.detail}</w:FaultDetail>")
    if fault.wmi_error is not None:
        parts.append(_wmi_error(fault.wmi_error))
    elif fault.kind.code is not None:
        parts.append(_wsman_fault(fault.kind.code, machine, _message(fault, sentence, machine), top=True))
    return f"<s:Detail>{''.join(parts)}</s:Detail>" if parts else ""


def _wsman_fault(code: int, machine: str, message: str, *, top: bool = False) -> str:
    declaration = f" xmlns:f={attribute(names.F)}" if top else ""
    return f'<f:WSManFault{declaration} Code="{code}" Machine={attribute(machine)}><f:Message>{message}</f:Message></f:WSManFault>'


def _message(fault: SoapFault, sentence: str, machine: str) -> str:
    """The content of ``f:Message``: a sentence, or a ProviderFault with what the provider says."""
    provider = fault.provider
    if provider is None:
        return text(sentence)
    inner = ""
    if provider.code is not None:
        inner += _wsman_fault(provider.code, machine, text(provider.message))
    if provider.status is not None:
        inner += _extended_status(provider)
    if not inner:
        inner = text(provider.message or sentence)
    return f"<f:ProviderFault provider={attribute(provider.provider)} path={attribute(provider.path)}>{inner}</f:ProviderFault>"


def _extended_status(provider: ProviderFault) -> str:
    uri = names.CLASS_PREFIX + "root/cimv2/__ExtendedStatus"
    values = {"Description": provider.message, "Operation": provider.operation, "ParameterInfo": None,
              "ProviderName": provider.provider, "StatusCode": str(provider.status)}
    children = "".join(f"<p:{name}>{text(value)}</p:{name}>" if value else f'<p:{name} xsi:nil="true"/>' for name, value in values.items())
    return (f"<f:ExtendedError><p:__ExtendedStatus xmlns:p={attribute(uri)} xmlns:xsi={attribute(names.XSI)} "
            f'xsi:type="p:__ExtendedStatus_Type">{children}</p:__ExtendedStatus></f:ExtendedError>')


def _wmi_error(error: WmiError) -> str:
    if error.namespace is None:
        uri = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError"
    else:
        uri = names.CLASS_PREFIX + error.namespace + "/MSFT_WmiError"
    values = {"CIMStatusCode": str(error.cim_status), "Message": error.message, "MessageID": f"HRESULT 0x{error.error_code:08x}",
              "OwningEntity": "", "PerceivedSeverity": "0", "ProbableCause": "0", "error_Code": str(error.error_code),
              "error_Type": "HRESULT", "error_WindowsErrorMessage": error.message}
    children = "".join(f"<p:{name}>{text(value)}</p:{name}>" for name, value in values.items())
    return (f'<p:MSFT_WmiError b:IsCIM_Error="true" xmlns:p={attribute(uri)} xmlns:b={attribute(names.B)} '
            f'xmlns:xsi={attribute(names.XSI)} xsi:type="p:MSFT_WmiError_Type">{children}</p:MSFT_WmiError>')
