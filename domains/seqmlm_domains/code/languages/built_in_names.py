"""Names that a language knows without a declaration or an import.

Python: "Built-in Functions", "Built-in Constants" and "Built-in Exceptions" of the Python 3.14
documentation. Java: types of the package ``java.lang`` of the Java SE 21 API. JavaScript: "The
Global Object" of ECMAScript 2024, and the ``console``; for JSX the "Index of elements" of the HTML
standard; TypeScript besides: the utility types of its handbook. Aliases, deprecated names and what
is only there for the interpreter's own use are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class BuiltInNames:
    """Names by what they are.

    Args:
        values: constants and objects.
        functions: that are no classes.
        classes: also of types that no object is made of, exceptions aside.
        exceptions: classes of them.
        elements: that can stand in a tag.
    """

    values: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    exceptions: frozenset[str] = frozenset()
    elements: frozenset[str] = frozenset()

    @cached_property
    def all(self) -> tuple[str, ...]:
        """Every name, in alphabetical order."""
        names = self.values | self.functions | self.classes | self.exceptions | self.elements
        return tuple(sorted(names))


NO_BUILT_IN_NAMES: Final = BuiltInNames()

PYTHON_NAMES: Final = BuiltInNames(
    values=_words("Ellipsis NotImplemented __debug__ __doc__ __file__ __name__"),
    functions=_words(
        "__import__ abs aiter all anext any ascii bin breakpoint callable chr compile delattr dir "
        "divmod eval exec format getattr globals hasattr hash help hex id input isinstance "
        "issubclass iter len locals max min next oct open ord pow print repr round setattr sorted "
        "sum vars"
    ),
    classes=_words(
        "bool bytearray bytes classmethod complex dict enumerate filter float frozenset int list "
        "map memoryview object property range reversed set slice staticmethod str super tuple type "
        "zip"
    ),
    exceptions=_words(
        "ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup "
        "BlockingIOError BrokenPipeError BufferError BytesWarning ChildProcessError "
        "ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError "
        "DeprecationWarning EOFError EncodingWarning Exception ExceptionGroup FileExistsError "
        "FileNotFoundError FloatingPointError FutureWarning GeneratorExit ImportError "
        "ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError "
        "KeyboardInterrupt LookupError MemoryError ModuleNotFoundError NameError "
        "NotADirectoryError NotImplementedError OSError OverflowError PendingDeprecationWarning "
        "PermissionError ProcessLookupError PythonFinalizationError RecursionError ReferenceError "
        "ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration StopIteration SyntaxError "
        "SyntaxWarning SystemError SystemExit TabError TimeoutError TypeError UnboundLocalError "
        "UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning "
        "UserWarning ValueError Warning ZeroDivisionError"
    ),
)

JAVA_NAMES: Final = BuiltInNames(
    classes=_words(
        "Appendable AutoCloseable Boolean Byte CharSequence Character Class ClassLoader ClassValue "
        "Cloneable Comparable Deprecated Double Enum Float FunctionalInterface "
        "InheritableThreadLocal Integer Iterable Long Math Module ModuleLayer Number Object "
        "Override Package Process ProcessBuilder ProcessHandle Readable Record Runnable Runtime "
        "RuntimePermission SafeVarargs Short StackTraceElement StackWalker StrictMath String "
        "StringBuffer StringBuilder SuppressWarnings System Thread ThreadGroup ThreadLocal Void"
    ),
    exceptions=_words(
        "AbstractMethodError ArithmeticException ArrayIndexOutOfBoundsException "
        "ArrayStoreException AssertionError BootstrapMethodError ClassCastException "
        "ClassCircularityError ClassFormatError ClassNotFoundException "
        "CloneNotSupportedException EnumConstantNotPresentException Error Exception "
        "ExceptionInInitializerError IllegalAccessError IllegalAccessException "
        "IllegalArgumentException IllegalCallerException IllegalMonitorStateException "
        "IllegalStateException IllegalThreadStateException IncompatibleClassChangeError "
        "IndexOutOfBoundsException InstantiationError InstantiationException InternalError "
        "InterruptedException LayerInstantiationException LinkageError MatchException "
        "NegativeArraySizeException NoClassDefFoundError NoSuchFieldError NoSuchFieldException "
        "NoSuchMethodError NoSuchMethodException NullPointerException NumberFormatException "
        "OutOfMemoryError ReflectiveOperationException RuntimeException SecurityException "
        "StackOverflowError StringIndexOutOfBoundsException Throwable TypeNotPresentException "
        "UnknownError UnsatisfiedLinkError UnsupportedClassVersionError "
        "UnsupportedOperationException VerifyError VirtualMachineError WrongThreadException"
    ),
)

JAVASCRIPT_NAMES: Final = BuiltInNames(
    values=_words("Atomics Infinity Intl JSON Math NaN Reflect console globalThis"),
    functions=_words(
        "decodeURI decodeURIComponent encodeURI encodeURIComponent isFinite isNaN parseFloat "
        "parseInt"
    ),
    classes=_words(
        "Array ArrayBuffer BigInt BigInt64Array BigUint64Array Boolean DataView Date "
        "FinalizationRegistry Float32Array Float64Array Function Int16Array Int32Array Int8Array "
        "Map Number Object Promise Proxy RegExp Set SharedArrayBuffer String Symbol Uint16Array "
        "Uint32Array Uint8Array Uint8ClampedArray WeakMap WeakRef WeakSet"
    ),
    exceptions=_words(
        "AggregateError Error EvalError RangeError ReferenceError SyntaxError TypeError URIError"
    ),
    elements=_words(
        "a abbr address area article aside audio b base bdi bdo blockquote body br button canvas "
        "caption cite code col colgroup data datalist dd del details dfn dialog div dl dt em embed "
        "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html i "
        "iframe img input ins kbd label legend li link main map mark menu meta meter nav noscript "
        "object ol optgroup option output p picture pre progress q rp rt ruby s samp script search "
        "section select slot small source span strong style sub summary sup svg table tbody td "
        "template textarea tfoot th thead time title tr track u ul var video wbr"
    ),
)

TYPESCRIPT_NAMES: Final = BuiltInNames(
    values=JAVASCRIPT_NAMES.values,
    functions=JAVASCRIPT_NAMES.functions,
    classes=JAVASCRIPT_NAMES.classes
    | _words(
        "Awaited Exclude Extract InstanceType NonNullable Omit Parameters Partial Pick Readonly "
        "ReadonlyArray Record Required ReturnType"
    ),
    exceptions=JAVASCRIPT_NAMES.exceptions,
    elements=JAVASCRIPT_NAMES.elements,
)
