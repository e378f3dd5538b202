//! Dates as header fields have them.

use time::{Month, OffsetDateTime, Weekday};

use crate::time::Timestamp;

/// The form of RFC 9110 §5.6.7, such as `Sun, 06 Nov 1994 08:49:37 GMT`; what is left of the second is dropped.
pub(super) fn http_date(time: Timestamp) -> String {
    let at = OffsetDateTime::from(time);
    let day = match at.weekday() {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    };
    let month = match at.month() {
        Month::January => "Jan",
        Month::February => "Feb",
        Month::March => "Mar",
        Month::April => "Apr",
        Month::May => "May",
        Month::June => "Jun",
        Month::July => "Jul",
        Month::August => "Aug",
        Month::September => "Sep",
        Month::October => "Oct",
        Month::November => "Nov",
        Month::December => "Dec",
    };
    let (hour, minute, second) = at.to_hms();
    format!("{day}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", at.day(), at.year())
}

/// The form of RFC 9651 §3.3.7, such as `@784111777`; what is left of the second is dropped.
pub(super) fn field_date(time: Timestamp) -> String {
    format!("@{}", time.unix_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_two_forms_of_header_fields() {
        for (time, http, field) in [
            ("1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT", "@784111777"),
            ("1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT", "@0"),
            ("2028-02-29T23:59:59.999999Z", "Tue, 29 Feb 2028 23:59:59 GMT", "@1835481599"),
            ("9999-12-31T23:59:59.999999Z", "Fri, 31 Dec 9999 23:59:59 GMT", "@253402300799"),
        ] {
            let time = time.parse().unwrap();
            assert_eq!((http_date(time).as_str(), field_date(time).as_str()), (http, field));
        }
    }

    #[test]
    fn each_month_and_weekday_has_its_name() {
        let mut time: Timestamp = "2027-01-04T00:00:00Z".parse().unwrap();
        let mut names = String::new();
        for _ in 0..12 {
            names += &http_date(time)[..11].replace(", ", " ");
            names.push('|');
            time = time.plus(std::time::Duration::from_secs(31 * 86_400)).unwrap();
        }
        assert_eq!(
            names,
            "Mon 04 Jan|Thu 04 Feb|Sun 07 Mar|Wed 07 Apr|Sat 08 May|Tue 08 Jun|Fri 09 Jul|Mon 09 Aug|\
             Thu 09 Sep|Sun 10 Oct|Wed 10 Nov|Sat 11 Dec|"
        );
    }
}
