-- What the planner has to know of the database: one row of version (bigint) and JSON (text).
SELECT (SELECT number FROM howdah.version),
       json_build_object(
    'tables', (SELECT coalesce(json_agg(json_build_object(
                   'schema', k.schema, 'name', k.name, 'kind', k.kind, 'key', k.key_column,
                   'colocation', k.colocation,
                   'buckets', (SELECT count(*) FROM howdah.placement p WHERE p.colocation = k.colocation),
                   'statement_triggers', EXISTS (SELECT FROM pg_trigger t
                                                  WHERE t.tgrelid = k.relation AND NOT t.tgisinternal
                                                    AND t.tgtype & 1 = 0 AND t.tgname <> 'howdah_guard'),
                   'indexes', (SELECT coalesce(json_agg(i.relname), '[]') FROM pg_index x
                                 JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = k.relation),
                   'columns', (SELECT json_agg(json_build_object(
                                   'name', a.attname, 'type_oid', a.atttypid::bigint,
                                   'type_name', format_type(a.atttypid, NULL),
                                   'collation', CASE WHEN a.attcollation <> t.typcollation
                                                     THEN format('%I.%I', cn.nspname, c.collname) END,
                                   'not_null', a.attnotnull,
                                   'declared_type', CASE WHEN a.atttypmod <> -1 AND t.typname <> 'bpchar'
                                                         THEN format_type(a.atttypid, a.atttypmod) END,
                                   'fill', CASE WHEN a.attgenerated <> '' THEN 'generated'
                                                WHEN a.attidentity <> '' THEN 'identity'
                                                WHEN NOT a.atthasdef THEN 'null'
                                                -- Calls have a parenthesis; these have none, and are calls.
                                                WHEN pg_get_expr(d.adbin, d.adrelid)
                                                     ~* '\(|current_|localtime|session_user|system_user|\muser\M'
                                                THEN 'default'
                                                ELSE 'constant' END) ORDER BY a.attnum)
                                 FROM pg_attribute a
                                 JOIN pg_type t ON t.oid = a.atttypid
                                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                                 LEFT JOIN pg_collation c ON c.oid = a.attcollation
                                 LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
                                WHERE a.attrelid = k.relation AND a.attnum > 0 AND NOT a.attisdropped)
               )), '[]') FROM howdah.catalog k),
    'namesakes', (SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname)), '[]')
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S')
                     AND c.relname IN (SELECT name FROM howdah.catalog)
                     AND c.oid NOT IN (SELECT relation::oid FROM howdah.tables)),
    'functions', (SELECT coalesce(json_agg(DISTINCT p.proname), '[]') FROM pg_proc p
                    JOIN pg_namespace n ON n.oid = p.pronamespace
                   WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah')),
    'operators', (SELECT coalesce(json_agg(DISTINCT o.oprname), '[]') FROM pg_operator o
                    JOIN pg_namespace n ON n.oid = o.oprnamespace
                   WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah'))
)::text
