// What applications do with JDBC: prepared statements, batches, fetch sizes, transactions, metadata,
// errors. Called by drivers.rs with a URL.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

public class JdbcRound {
    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static long number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        try (Connection connection = DriverManager.getConnection(arguments[0], "howdah", "howdah")) {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE drivers_jdbc (id bigint PRIMARY KEY, note text, amount numeric(10,2))");
                statement.execute("SELECT create_distributed_table('drivers_jdbc', 'id')");
            }
            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO drivers_jdbc VALUES (?, ?, ?)")) {
                for (int id = 1; id <= 500; id++) {
                    insert.setLong(1, id);
                    insert.setString(2, "note " + id);
                    insert.setBigDecimal(3, new java.math.BigDecimal("2.50"));
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 500, "a batch");
            }
            connection.commit();
            try (PreparedStatement select = connection.prepareStatement("SELECT note FROM drivers_jdbc WHERE id = ?")) {
                for (int id = 1; id <= 50; id++) { // the driver prepares on the server from the fifth on
                    select.setLong(1, id);
                    try (ResultSet rows = select.executeQuery()) {
                        check(rows.next() && rows.getString(1).equals("note " + id), "a row by key");
                    }
                }
            }
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100); // a portal, fetched in parts
                long last = 0;
                int count = 0;
                try (ResultSet rows = statement.executeQuery("SELECT id FROM drivers_jdbc ORDER BY id")) {
                    while (rows.next()) {
                        check(rows.getLong(1) > last, "ordered");
                        last = rows.getLong(1);
                        count++;
                    }
                }
                check(count == 500, "all rows in parts, not " + count);
                statement.executeUpdate("UPDATE drivers_jdbc SET amount = 0");
            }
            connection.rollback();
            check(number(connection, "SELECT sum(amount)::bigint FROM drivers_jdbc") == 1250, "rolled back");
            try (Statement statement = connection.createStatement()) {
                statement.execute("INSERT INTO drivers_jdbc VALUES (1, 'again', 0)");
                throw new AssertionError("a duplicate key is refused");
            } catch (SQLException error) {
                check("23505".equals(error.getSQLState()), error.getSQLState() + ": " + error.getMessage());
            }
            connection.rollback();
            DatabaseMetaData metadata = connection.getMetaData();
            try (ResultSet keys = metadata.getPrimaryKeys(null, "public", "drivers_jdbc")) {
                check(keys.next() && keys.getString("COLUMN_NAME").equals("id"), "metadata has the key");
            }
            connection.commit();
        }
        System.out.println("JDBC is content");
    }
}
