//! The router's partition hash is PostgreSQL's, for every key type, from text and from binary values.

use howdah::router::core::hash::{KeyType, Value, bucket_of};
use tokio_postgres::types::{FromSql, Type};

use super::{connect, rows};
use crate::cluster::plain::Plain;

/// Values of each type.
const VALUES: usize = 400;
/// Odd, so that no bit of the hash is left out.
const BUCKETS: u32 = 509;

/// A value's binary form, whatever its type.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// SQL that makes a random value of the type.
fn random(key: KeyType) -> &'static str {
    match key {
        KeyType::Bool => "random() < 0.5",
        KeyType::Bytea => "substr(sha256(random()::text::bytea), 1, (random() * 32)::int)",
        KeyType::Char => "chr(32 + (random() * 90)::int)::\"char\"",
        KeyType::Name => "substr(md5(random()::text), 1, (random() * 32)::int)::name",
        KeyType::Int8 => "((random() - 0.5) * 10 ^ (random() * 18))::int8",
        KeyType::Int2 => "((random() - 0.5) * 65534)::int2",
        KeyType::Int4 => "((random() - 0.5) * 10 ^ (random() * 9))::int4",
        KeyType::Text => {
            "repeat(chr(40 + (random() * 4000)::int), (random() * 9)::int) || md5(random()::text) || repeat(' ', (random() * 2)::int)"
        }
        KeyType::Varchar => "(md5(random()::text) || repeat(' ', (random() * 2)::int))::varchar",
        KeyType::Bpchar => "(substr(md5(random()::text), 1, (random() * 20)::int))::char(20)",
        KeyType::Oid => "(random() * 4294967295)::bigint::oid",
        KeyType::Float4 => "(random() * 100)::float4",
        KeyType::Float8 => "random() * 100",
        KeyType::Inet => "('10.0.0.0'::inet + (random() * 1000000)::int)",
        KeyType::Date => "'2000-01-01'::date + ((random() - 0.5) * 700000)::int",
        KeyType::Time => "'00:00'::time + random() * interval '1 day'",
        KeyType::Timestamp => "'2000-01-01'::timestamp + (random() - 0.5) * interval '3000 years'",
        KeyType::Timestamptz => "'2000-01-01'::timestamptz + (random() - 0.5) * interval '3000 years'",
        KeyType::Interval => "random() * interval '1 year'",
        KeyType::Numeric => "trunc(((random() - 0.5) * 10 ^ (random() * 24 - 6))::numeric, (random() * 12)::int)",
        KeyType::Uuid => "gen_random_uuid()",
    }
}

#[tokio::test]
async fn the_hash_is_postgresqls() {
    let server = Plain::start(24_000);
    let client = connect(&server).await;
    let seed = rows(&client, "SELECT trunc(random() * 1000000) / 1000000").await.expect("a seed")[0][0]
        .clone()
        .expect("not null");
    println!("seed {seed}: SELECT setseed({seed})");
    client.batch_execute(&format!("SET TimeZone = 'Asia/Kolkata'; SELECT setseed({seed})")).await.expect("setseed");
    for key in (0..3_000).filter_map(KeyType::from_oid) {
        let name = key.name();
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS h; CREATE TABLE h (k {name}) PARTITION BY HASH (k);
                 DROP TABLE IF EXISTS v; CREATE TABLE v AS
                 SELECT ({})::{name} AS k FROM generate_series(1, {VALUES})",
                random(key)
            ))
            .await
            .expect("tables");
        let bucket = format!(
            "(SELECT r FROM generate_series(0, {BUCKETS} - 1) r WHERE satisfies_hash_partition('h'::regclass, {BUCKETS}, r, k))"
        );
        let (mut by_text, mut by_binary) = (0, 0);
        for row in client.query(&format!("SELECT k::text, {bucket}, k FROM v"), &[]).await.expect("values") {
            let (text, expected, raw): (String, i32, Raw) = (row.get(0), row.get(1), row.get(2));
            let expected = u32::try_from(expected).expect("a bucket");
            if let Ok(bucket) = key.bucket(Value::Text(&text), BUCKETS) {
                assert_eq!(bucket, expected, "{name} {text:?}");
                by_text += 1;
            }
            if let Ok(bucket) = key.bucket(Value::Binary { type_oid: 0, bytes: &raw.0 }, BUCKETS) {
                assert_eq!(bucket, expected, "{name} {text:?} in binary");
                by_binary += 1;
            }
            let asked = rows(&client, &key.ask_sql(None).replace("$1", &format!("'{}'", text.replace('\'', "''"))))
                .await
                .expect("a hash");
            let hash: i64 = asked[0][0].as_deref().expect("not null").parse().expect("a bigint");
            assert_eq!(bucket_of(hash.cast_unsigned(), BUCKETS), expected, "{name} {text:?} asked");
        }
        // Nothing that is said to be parsed is left to PostgreSQL for the usual spellings.
        let asked_only = matches!(
            key,
            KeyType::Char | KeyType::Float4 | KeyType::Float8 | KeyType::Inet | KeyType::Interval | KeyType::Time
        );
        assert!(asked_only || by_text > VALUES / 3, "{name}: {by_text} by text");
        assert!(asked_only || by_binary == VALUES, "{name}: {by_binary} in binary");
    }
}
