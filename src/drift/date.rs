//! Seconds since 1970 as a date that people and TOML read.

/// `2026-11-25T13:04:05Z`, by the Gregorian calendar in UTC.
///
/// ```
/// use mdprop::drift::utc;
///
/// assert_eq!(utc(0), "1970-01-01T00:00:00Z");
/// assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
/// assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
/// ```
///
/// # Source
/// Fliegel & van Flandern 1968, CACM 11(10): days to year, month and day in whole numbers.
pub fn utc(unix_s: u64) -> String {
    let (days, second) = ((unix_s / 86_400) as i64, unix_s % 86_400);
    // Julian day number of 1970-01-01 is 2,440,588.
    let mut l = days + 2_440_588 + 68_569;
    let n = 4 * l / 146_097;
    l -= (146_097 * n + 3) / 4;
    let i = 4000 * (l + 1) / 1_461_001;
    l = l - 1461 * i / 4 + 31;
    let j = 80 * l / 2447;
    let day = l - 2447 * j / 80;
    l = j / 11;
    let (month, year) = (j + 2 - 12 * l, 100 * (n - 49) + i + l);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}
