package report

import (
	"math"
	"strconv"
	"strings"
)

// none is shown where there is no number.
const none = "–"

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// value writes v with digits significant digits where that is readable, as a
// power of ten elsewhere.
func value(v float64) string {
	const digits = 4
	magnitude := math.Abs(v)
	switch {
	case !finite(v):
		return none
	case v == 0:
		return "0"
	case magnitude < 1e-3 || magnitude >= 1e6:
		return sign(strconv.FormatFloat(v, 'e', digits-1, 64))
	}
	decimals := digits - 1 - int(math.Floor(math.Log10(magnitude)))
	return sign(strconv.FormatFloat(v, 'f', max(decimals, 0), 64))
}

// percent writes a share such that a small one isn't taken for none, nor one
// that is nearly whole for all.
func percent(share float64) string {
	v := 100 * share
	switch {
	case !finite(v):
		return none
	case v == 0 || v == 100:
		return strconv.Itoa(int(v)) + " %"
	case v > 0 && v < 0.001:
		return "< 0.001 %"
	case v > 99.99 && v < 100:
		return "> 99.99 %"
	case v > 0 && v < 1:
		return strconv.FormatFloat(v, 'f', 3, 64) + " %"
	case v > 99.9 && v < 100:
		return strconv.FormatFloat(v, 'f', 2, 64) + " %"
	}
	return sign(strconv.FormatFloat(v, 'f', 1, 64)) + " %"
}

// points writes a difference of shares in percentage points.
func points(share float64) string {
	if v := 100 * share; finite(v) {
		return sign(strconv.FormatFloat(v+0, 'f', 2, 64))
	}
	return none
}

func decibel(v float64) string {
	if !finite(v) {
		return none
	}
	return sign(strconv.FormatFloat(v, 'f', 1, 64))
}

// count writes n with a space for each thousand.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// compact writes n in four characters at most, up to a million.
func compact(n int) string {
	switch {
	case n < 1000:
		return strconv.Itoa(n)
	case n < 9950:
		return strconv.FormatFloat(float64(n)/1000, 'f', 1, 64) + "k"
	}
	return strconv.FormatFloat(float64(n)/1000, 'f', 0, 64) + "k"
}

// short writes a power of ten for an axis.
func short(exponent int) string {
	if exponent > 14 {
		return "1e" + strconv.Itoa(exponent)
	}
	return "1" + strings.Repeat("0", exponent%3) + []string{"", "k", "M", "G", "T"}[exponent/3]
}

// ellipsis shortens s to n characters.
func ellipsis(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// sign writes the minus as wide as the plus, and none before a zero.
func sign(s string) string {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		if strings.Trim(rest, "0.") == "" {
			return rest
		}
		return "\u2212" + rest
	}
	return s
}
